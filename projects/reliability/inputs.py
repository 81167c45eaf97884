"""Inputs that are wrong, each of which must end a command in one clear line."""

import copy
import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from entry_points import ANNOTATING, COMMANDS, SCRIPTS


class Case(NamedTuple):
    """A call with something wrong.

    Attributes:
        name (str): Unique.
        what (str): Command or script.
        arguments (list[str]): Its.
        spoil (Callable): Takes the folder to run in, and spoils it.
        named (str): What the line must name.
    """

    name: str
    what: str
    arguments: list[str]
    spoil: Callable
    named: str


def all_cases() -> list[Case]:
    """Some four hundred."""
    return [*spoilt_files(), *wrong_values(), *spoilt_data(), *wrong_arguments()]


# Files that are named in an argument ---------------------------------------


def bomb() -> bytes:
    """A PNG of 60000 x 60000 pixels, by what its header says."""

    def chunk(kind, data):
        length, check = (struct.pack('>I', n) for n in (len(data), zlib.crc32(kind + data)))
        return length + kind + data + check

    size = struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
    parts = (b'IHDR', size), (b'IDAT', zlib.compress(b'')), (b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)


def folder_at(path: Path) -> None:
    path.mkdir()


def weights(change: Callable) -> Callable:
    """Spoils a sound training's checkpoint."""

    def spoil(path: Path) -> None:
        content = torch.load(path.parent / 'trained.pth', weights_only=False)
        torch.save(change(content), path)

    return spoil


def with_weights(change: Callable) -> Callable:
    """Likewise, every one of its weights."""

    def each(content: dict) -> dict:
        state = {key: change(value) for key, value in content['state_dict'].items()}
        return dict(content, state_dict=state)

    return weights(each)


def cut(path: Path) -> None:
    content = (path.parent / 'trained.pth').read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(path: Path) -> None:
    """One bit of the longest weight."""
    content = bytearray((path.parent / 'trained.pth').read_bytes())
    state = torch.load(path.parent / 'trained.pth', weights_only=False)['state_dict']
    longest = max(state.values(), key=torch.numel)
    content[content.index(longest.numpy().tobytes()) + 40] ^= 1
    path.write_bytes(content)


# By kind of file: name -> content, or what makes it; None: there is none.
SPOILT: dict[str, dict[str, bytes | Callable | None]] = dict(
    config={
        'absent.py': None,
        'empty.py': b'',
        'syntax.py': b'model = dict(',
        'latin.py': b'a = "\xe9"',
        'null.py': b'a = 1\0',
        'loop.py': b"_base_ = 'loop.py'",
        'base.py': b"_base_ = 'gone.py'",
        'cut.yaml': b'model: {a: [1',
        'tabs.yaml': b'model:\n\t- a',
        'latin.yml': b'model: \xe9',
        'list.json': b'[1]',
        'cut.json': b'{"model": {"a": 1',
        'deep.json': b'{"model": ' * 20_000,
        'folder.py': folder_at,
        'other.txt': b'model = dict()',
    },
    checkpoint={
        'absent.pth': None,
        'empty.pth': b'',
        'text.pth': b'no checkpoint',
        'cut.pth': cut,
        'flipped.pth': flipped,
        'folder.pth': folder_at,
        'number.pth': weights(lambda content: 7),
        'nothing.pth': weights(lambda content: {}),
        'noweights.pth': weights(lambda content: dict(state_dict={})),
        'nan.pth': with_weights(lambda value: value * torch.nan),
        'shapes.pth': with_weights(lambda value: value[..., None].repeat_interleave(2, -1)),
        'ints.pth': with_weights(lambda value: value.int()),
        'complex.pth': with_weights(lambda value: value * 1j),
        'sparse.pth': with_weights(lambda value: value.to_sparse()),
        'texts.pth': with_weights(lambda value: 'text'),
        'absent.safetensors': None,
        'text.safetensors': b'no checkpoint at all',
    },
    image={
        'absent.png': None,
        'empty.png': b'',
        'text.png': b'no image',
        'bomb.png': bomb(),
        'cut.png': bomb()[:20],
    },
    log={
        'absent.json': None,
        'empty.json': b'',
        'text.json': b'no log',
        'latin.json': b'{"a": "\xe9"}\n',
        'list.json': b'[1]\n',
        'deep.json': b'[' * 100_000,
        'wrong.json': b'{"step": "x", "loss": "y"}\n',
        'folder.json': folder_at,
    },
    json={
        'absent.json': None,
        'empty.json': b'',
        'text.json': b'no figures',
        'latin.json': b'{"a": "\xe9"}',
        'list.json': b'[1]',
        'deep.json': b'[' * 100_000,
        'wrong.json': b'{"a": NaN}',
        'folder.json': folder_at,
    },
    bccd={'absent': None, 'folder': folder_at, 'file': b'no folder'},
    camvid={'absent': None, 'folder': folder_at, 'file': b'no folder'},
)


def spoilt_files() -> Iterator[Case]:
    """Every such file, for every command that takes one."""
    for what, calls in (COMMANDS | SCRIPTS).items():
        for number, call in enumerate(calls):
            kind = slot(call)
            for name, content in SPOILT.get(kind, {}).items():
                arguments = [part.replace(f'{{{kind}}}', name) for part in call]
                if what == 'train' and name == 'folder.py':
                    continue  # the same as absent.py to find_config
                case = f'{what} {number}: {kind} {name}'
                yield Case(case, what, arguments, write(name, content), name)


def slot(call: list[str]) -> str:
    """The kind of file that a call is open for."""
    (kind,) = re.findall(r'\{(\w+)\}', ' '.join(call))
    return kind


def write(name: str, content: bytes | Callable | None) -> Callable:
    def spoil(folder: Path) -> None:
        if callable(content):
            content(folder / name)
        elif content is not None:
            (folder / name).write_bytes(content)

    return spoil


# Values ----------------------------------------------------------------------

VALUES = """
train_dataloader.batch_size=0 train_dataloader.batch_size=2.5 train_dataloader.batch_size=x
train_dataloader.num_workers=-1 val_dataloader.batch_size=0 train_cfg.max_epochs=0
train_cfg.max_epochs=-3 train_cfg.max_epochs=many train_cfg.val_interval=0
optim_wrapper.optimizer.lr=fast optim_wrapper.optimizer.lr=-1 optim_wrapper.optimizer.lr=nan
optim_wrapper.optimizer.lr=None optim_wrapper.optimizer.weight_decay=x
optim_wrapper.optimizer.type=AdamWW optim_wrapper.optimizer.beta=1
optim_wrapper.accumulative_counts=0 optim_wrapper.clip_grad.max_norm=0
optim_wrapper.type=OptimWrap param_scheduler.type=Cosine param_scheduler.T_max=0
randomness.seed=-1 randomness.seed=text default_hooks.logger.interval=0
default_hooks.logger.type=Logger model.head.num_classes=0 model.head.num_classes=2
model.type=mmtlalign.Classifier model.backbone.type=VisionTransfomer model.backbone.patch_size=0
model.backbone.img_size=x model.backbone.arch=huge-ish model.backbone.arch.num_heads=3
model.backbone.depht=2 model.head.in_channels=17 model.head.loss.type=Loss
train_dataloader.dataset.type=Data train_dataloader.dataset.data_root=gone
train_dataloader.dataset.pipeline=[] train_dataloader.sampler.type=Sampler
val_evaluator.type=Accurancy default_scope=mmunknown optimizer.lr=1 trian_cfg.max_epochs=1
load_from=gone.pth train_cfg.type=Loop data_preprocessor.mean=x custom_hooks=5 model=5
train_dataloader=5 train_cfg=5 optim_wrapper=5 env_cfg.dist_cfg=5 work_dir=tiny.py/a
""".split()

# Told by the part, the value or the error instead.
UNNAMED = ('type', 'pipeline', 'patch_size', 'img_size', 'num_heads', 'in_channels', 'load_from')
UNNAMED += ('default_scope', 'custom_hooks', 'work_dir', 'mean')


def wrong_values() -> Iterator[Case]:
    for option in VALUES:
        key = option.partition('=')[0].split('.')[-1]
        named = '' if key in UNNAMED else key
        arguments = ['tiny.py', '--cfg-options', option]
        yield Case(f'train: {option}', 'train', arguments, lambda folder: None, named)


# Arguments -------------------------------------------------------------------

ARGUMENTS = [
    ('train', 'tiny.py --resume tiny.pth', 'tiny.pth'),
    ('train', 'tiny.py --extend 0', 'extend'),
    ('train', 'tiny.py --work-dir tiny.py', 'tiny.py'),
    ('train', '', 'config'),
    ('train', 'tiny.py --launcher mpi2', 'launcher'),
    ('train', 'tiny.py --check-picture gone', 'picture'),
    ('test', 'tiny.py tiny.pth --out a.txt', 'a.txt'),
    ('test', 'tiny.py annotator.pth', 'annotator.pth'),
    ('test', 'tiny.py', 'checkpoint'),
    ('test', 'annotator.py annotator.pth', ''),
    ('train', 'annotator.py', ''),
    ('robustness', 'annotator.py annotator.pth', 'annotator.py'),
    ('fidelity', 'annotator.py annotator.pth', 'annotator.py'),
    ('token_labels', 'annotator.py annotator.pth annotator.py --size 48', 'annotator.py'),
    ('check', 'tiny.py --json images', 'images'),
    ('demo', 'gone.png tiny.py tiny.pth', 'gone.png'),
    ('demo', 'photo.png tiny.py annotator.pth --device cpu', 'annotator.pth'),
    ('demo', 'photo.png tiny.py tiny.pth --device cpux', 'cpux'),
    ('publish', 'tiny.pth out', 'tiny.pth'),
    ('publish', 'trained.pth out --name a/b', 'a/b'),
    ('publish', 'trained.pth tiny.py', 'tiny.py'),
    ('export', 'tiny.py tiny.pth --shape 16 16 --out a.txt', 'a.txt'),
    ('export', 'tiny.py tiny.pth --out a.pt2 --shape 0 16', 'shape'),
    ('export', 'detector.py detector.pth --out a.pt2', ''),
    ('convert', 'tiny.pth gone/out.pth', 'gone'),
    ('convert', 'tiny.pth tiny.pth', 'tiny.pth'),
    ('convert', 'tiny.pth a.pth --window-size 0', 'window-size'),
    ('robustness', 'tiny.py tiny.pth --drop 2', 'drop'),
    ('robustness', 'tiny.py tiny.pth --folders a=gone', 'gone'),
    ('robustness', 'detector.py detector.pth', 'detector.py'),
    ('fidelity', 'tiny.py tiny.pth --mixes 0', 'mixes'),
    ('fidelity', 'tiny.py tiny.pth --labels a b', 'labels'),
    ('visualize', 'tiny.py --img photo.png photo.png --box 0 0 0 0', ''),
    ('visualize', 'detector.py --img photo.png photo.png', 'detector.py'),
    ('curves', 'scalars.json --out images', 'images'),
    ('token_labels', 'tiny.py tiny.pth tokens.py --size 16 --out new --device cpu', ''),
    ('token_labels', 'annotator.py annotator.pth tiny.py --size 48 --device cpu', 'tiny.py'),
    ('token_labels', 'annotator.py annotator.pth tokens.py --size 0', 'size'),
    ('token_labels', 'annotator.py annotator.pth tokens.py --size 48 --top-k 0 --device cpu', ''),
]


def wrong_arguments() -> Iterator[Case]:
    for what, arguments, named in ARGUMENTS:
        yield Case(f'{what} {arguments}', what, arguments.split(), lambda folder: None, named)


# Data ------------------------------------------------------------------------


def first(group: str, **changes) -> Callable:
    """Changes the first image, box or category of the annotations."""

    def change(content):
        content[group][0].update(changes)

    return change


def without(group: str, key: str) -> Callable:
    def change(content):
        del content[group][0][key]

    return change


def twice(group: str) -> Callable:
    def change(content):
        content[group].append(copy.deepcopy(content[group][0]))

    return change


BOXES: dict[str, Callable | bytes | None] = dict(
    absent=None,
    empty=b'',
    text=b'no boxes',
    cut=b'{"images": [{"id": 1',
    latin=b'{"images": "\xe9"}',
    deep=b'[' * 100_000,
    list=b'[]',
    nothing=b'{}',
    nan=first('annotations', bbox=[float('nan'), 0, 4, 4]),
    infinite=first('annotations', bbox=[0, 0, float('inf'), 4]),
    short=first('annotations', bbox=[0, 0, 4]),
    text_box=first('annotations', bbox='0 0 4 4'),
    text_number=first('annotations', bbox=['0', 0, 4, 4]),
    unknown_image=first('annotations', image_id=99),
    text_image=first('annotations', image_id='0'),
    unknown_class=first('annotations', category_id=99),
    text_class=first('annotations', category_id='1'),
    no_box=without('annotations', 'bbox'),
    no_image=without('annotations', 'image_id'),
    no_class=without('annotations', 'category_id'),
    no_file=without('images', 'file_name'),
    no_id=without('images', 'id'),
    gone_file=first('images', file_name='gone.png'),
    other_size=first('images', width=7, height=9),
    text_size=first('images', width='a'),
    same_image=twice('images'),
    same_box=twice('annotations'),
    other_name=first('categories', name='c'),
    no_name=without('categories', 'name'),
)
MASKS: dict[str, Callable] = dict(
    empty=lambda path: path.write_bytes(b''),
    text=lambda path: path.write_bytes(b'no mask'),
    bomb=lambda path: path.write_bytes(bomb()),
    gone=lambda path: path.unlink(),
    value=lambda path: cv2.imwrite(str(path), np.full((32, 32), 7, np.uint8)),
    deep=lambda path: cv2.imwrite(str(path), np.full((32, 32), 300, np.uint16)),
    size=lambda path: cv2.imwrite(str(path), np.zeros((8, 8), np.uint8)),
    colour=lambda path: cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint8)),
)
IMAGES = {name: SPOILT['image'][f'{name}.png'] for name in ('empty', 'text', 'bomb', 'cut')}
READ_CLASSES = [
    ('train', ['tiny.py']),
    ('test', ['tiny.py', 'tiny.pth']),
    ('check', ['tiny.py']),
    ('robustness', ['tiny.py', 'tiny.pth']),
    ('fidelity', ['tiny.py', 'tiny.pth']),
    ('token_labels', ['annotator.py', 'annotator.pth', 'tokens.py', *ANNOTATING]),
]


def array_of(name: str, change: Callable) -> Callable:
    """Changes an array of the store."""

    def spoil(folder: Path) -> None:
        path = folder / f'maps/{name}.npy'
        array = np.load(path)
        array = change(array) if change(array) is not None else array
        np.save(path, array)

    return spoil


def fill(value) -> Callable:
    return lambda array: np.full_like(array, value)


STORES: dict[str, Callable] = dict(
    gone=lambda folder: shutil.rmtree(folder / 'maps'),
    no_index=lambda folder: (folder / 'maps/index.json').unlink(),
    empty_index=lambda folder: (folder / 'maps/index.json').write_bytes(b''),
    deep_index=lambda folder: (folder / 'maps/index.json').write_bytes(b'[' * 100_000),
    list_index=lambda folder: (folder / 'maps/index.json').write_bytes(b'[]'),
    no_names=lambda folder: (folder / 'maps/names.txt').unlink(),
    latin_names=lambda folder: (folder / 'maps/names.txt').write_bytes(b'\xe9'),
    other_names=lambda folder: (folder / 'maps/names.txt').write_bytes(b'a.png\n'),
    no_ids=lambda folder: (folder / 'maps/ids.npy').unlink(),
    empty_ids=lambda folder: (folder / 'maps/ids.npy').write_bytes(b''),
    nan=array_of('scores', fill(np.nan)),
    negative=array_of('scores', fill(-1)),
    large=array_of('ids', fill(99)),
    below=array_of('ids', fill(-1)),
    rectangle=array_of('rectangles', fill(0)),
    short=array_of('done', lambda array: array[:3]),
    undone=array_of('done', fill(False)),
    sums=array_of('sums', fill(0)),
    checks=array_of('checks', fill(0)),
    shape=array_of('ids', lambda array: array[..., :1]),
    dtype=array_of('scores', lambda array: array.astype(np.float64)),
)


def spoilt_data() -> Iterator[Case]:
    for what, arguments in READ_CLASSES:
        for name, content in IMAGES.items():
            spoil = write('images/class0/0.png', content)
            yield Case(f'{what}: image {name}', what, arguments, spoil, 'class0/0.png')
    for what in ('train', 'check'):
        for name, change in BOXES.items():
            yield Case(f'{what}: boxes {name}', what, ['detector.py'], boxes(change), '')
        for name, spoil in MASKS.items():
            named = '0.png' if name != 'gone' else ''
            yield Case(f'{what}: mask {name}', what, ['segmenter.py'], mask(spoil), named)
    for name, spoil in STORES.items():
        yield Case(f'train: store {name}', 'train', ['tokens.py'], spoil, 'maps')


def mask(spoil: Callable) -> Callable:
    return lambda folder: spoil(folder / 'data/masks/0.png')


def boxes(change: Callable | bytes | None) -> Callable:
    def spoil(folder: Path) -> None:
        path = folder / 'data/boxes.json'
        if change is None:
            path.unlink()
        elif callable(change):
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))
        else:
            path.write_bytes(change)

    return spoil
