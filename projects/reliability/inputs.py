"""Inputs that are wrong, each of which must end a command in one clear line."""

import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from bench import ANNOTATE, Case
from entry_points import COMMANDS, SCRIPTS

# What a file holds, or what makes it of its path; None: there is none.
Content = bytes | Callable[[Path], object] | None


def put(name: str, content: Content, folder: Path) -> None:
    path = folder / name
    if callable(content):
        content(path)
    elif content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def wrong_cases() -> Iterator[Case]:
    """Some six hundred."""
    yield from spoilt_files()
    yield from spoilt_data()
    for option in VALUES:
        key = option.partition('=')[0].split('.')[-1]
        arguments = ['tiny.py', '--cfg-options', option]
        named = '' if key in UNNAMED else key
        yield Case(f'train: {option}', 'train', arguments, named=named)
    for what, words, named in ARGUMENTS:
        yield Case(f'{what} {words}', what, words.split(), named=named)


# Files that are named in an argument ---------------------------------------


def png(image: np.ndarray) -> bytes:
    return cv2.imencode('.png', image)[1].tobytes()


def bomb() -> bytes:
    """A PNG of 60000 x 60000 pixels, by what its header says."""
    image = bytearray(png(np.zeros((1, 1, 3), np.uint8)))
    image[16:24] = struct.pack('>II', 60000, 60000)
    image[29:33] = struct.pack('>I', zlib.crc32(image[12:29]))
    return bytes(image)


def weights(change: Callable) -> Callable:
    """Spoils a sound training's checkpoint."""

    def spoil(path: Path) -> None:
        content = torch.load(path.parent / 'trained.pth', weights_only=False)
        torch.save(change(content), path)

    return spoil


def each_weight(change: Callable) -> Callable:
    """Likewise, every one of its weights."""

    def change_all(state: dict) -> dict:
        return {key: change(value) for key, value in state.items()}

    return weights(lambda content: dict(content, state_dict=change_all(content['state_dict'])))


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


# What any file may be instead.
ANY: dict[str, Content] = dict(
    absent=None,
    empty=b'',
    text=b'nothing that was asked for',
    latin=b'{"a": "\xe9"}\n',
    list=b'[1]\n',
    deep=b'[' * 100_000,
    bomb=bomb(),
    cut=bomb()[:20],
    folder=Path.mkdir,
)


def pick(names: str, ending: str = '') -> dict[str, Content]:
    """Some of those above, by the names of files."""
    return {name + ending: ANY[name] for name in names.split()}


TEXTS = 'absent empty text latin list deep folder'
# By kind of file.
SPOILT: dict[str, dict[str, Content]] = dict(
    config={
        **pick('absent empty folder', '.py'),
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
        'other.txt': b'model = dict()',
    },
    checkpoint={
        **pick('absent empty text folder', '.pth'),
        'cut.pth': cut,
        'flipped.pth': flipped,
        'number.pth': weights(lambda content: 7),
        'nothing.pth': weights(lambda content: {}),
        'noweights.pth': weights(lambda content: dict(state_dict={})),
        'nan.pth': each_weight(lambda value: value * torch.nan),
        'shapes.pth': each_weight(lambda value: value[..., None].repeat_interleave(2, -1)),
        'ints.pth': each_weight(lambda value: value.int()),
        'complex.pth': each_weight(lambda value: value * 1j),
        'sparse.pth': each_weight(lambda value: value.to_sparse()),
        'texts.pth': each_weight(lambda value: 'text'),
        **pick('absent text', '.safetensors'),
    },
    image=pick('absent empty text bomb cut', '.png'),
    log=pick(TEXTS, '.json') | {'wrong.json': b'{"step": "x", "loss": "y"}\n'},
    json=pick(TEXTS, '.json') | {'wrong.json': b'{"a": NaN}'},
    bccd=pick('absent folder') | {'file': b'no folder'},
    camvid=pick('absent folder') | {'file': b'no folder'},
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
                yield Case(case, what, arguments, partial(put, name, content), name)


def slot(call: list[str]) -> str:
    """The kind of file that a call is open for, if it is."""
    found = re.search(r'\{(\w+)\}', ' '.join(call))
    return found[1] if found else ''


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
    ('convert', 'tiny.pth tiny.py/out.pth', 'tiny.py'),
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

# Data ------------------------------------------------------------------------


def edited(group: str, change: Callable[[dict], list[dict]]) -> Callable:
    """Annotations with others in place of the first image, box or category."""

    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        content[group][:1] = change(content[group][0])
        path.write_text(json.dumps(content))

    return spoil


def first(group: str, **entries) -> Callable:
    return edited(group, lambda one: [one | entries])


def without(group: str, key: str) -> Callable:
    return edited(group, lambda one: [{k: value for k, value in one.items() if k != key}])


def twice(group: str) -> Callable:
    return edited(group, lambda one: [one, one])


BOXES: dict[str, Content] = dict(
    pick('absent empty text latin deep list'),
    cut=b'{"images": [{"id": 1',
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
MASKS: dict[str, Content] = dict(
    pick('empty text bomb'),
    gone=None,
    value=png(np.full((32, 32), 7, np.uint8)),
    deep=png(np.full((32, 32), 300, np.uint16)),
    size=png(np.zeros((8, 8), np.uint8)),
    colour=png(np.zeros((32, 32, 3), np.uint8)),
)


def array(name: str, change: Callable) -> Callable:
    """A store with a changed array."""

    def spoil(path: Path) -> None:
        np.save(path, change(np.load(path)))

    return partial(put, f'{name}.npy', spoil)


def filled(name: str, value: float) -> Callable:
    return array(name, lambda values: np.full_like(values, value))


STORES: dict[str, Content] = dict(
    gone=shutil.rmtree,
    no_index=partial(put, 'index.json', None),
    empty_index=partial(put, 'index.json', b''),
    deep_index=partial(put, 'index.json', ANY['deep']),
    list_index=partial(put, 'index.json', ANY['list']),
    no_names=partial(put, 'names.txt', None),
    latin_names=partial(put, 'names.txt', b'\xe9'),
    other_names=partial(put, 'names.txt', b'a.png\n'),
    no_ids=partial(put, 'ids.npy', None),
    empty_ids=partial(put, 'ids.npy', b''),
    nan=filled('scores', np.nan),
    negative=filled('scores', -1),
    large=filled('ids', 99),
    below=filled('ids', -1),
    rectangle=filled('rectangles', 0),
    short=array('done', lambda values: values[:3]),
    undone=filled('done', False),
    sums=filled('sums', 0),
    checks=filled('checks', 0),
    shape=array('ids', lambda values: values[..., :1]),
    dtype=array('scores', lambda values: values.astype(np.float64)),
)
READ_CLASSES = dict(
    train=['tiny.py'],
    test=['tiny.py', 'tiny.pth'],
    check=['tiny.py'],
    robustness=['tiny.py', 'tiny.pth'],
    fidelity=['tiny.py', 'tiny.pth'],
    token_labels=[*ANNOTATE, '--out', 'new'],
)


DETECT, SEGMENT = ['detector.py'], ['segmenter.py']
# What is spoilt, how, for which calls, and what the line must name.
DATA = (
    ('image', 'images/class0/0.png', pick('empty text bomb cut'), READ_CLASSES, 'class0/0.png'),
    ('boxes', 'data/boxes.json', BOXES, dict.fromkeys(('train', 'check'), ['detector.py']), ''),
    (
        'mask',
        'data/masks/0.png',
        MASKS,
        dict.fromkeys(('train', 'check'), ['segmenter.py']),
        '0.png',
    ),
    ('store', 'maps', STORES, dict(train=['tokens.py']), 'maps'),
)


def spoilt_data() -> Iterator[Case]:
    for kind, path, contents, calls, named in DATA:
        for what, arguments in calls.items():
            for name, content in contents.items():
                case = f'{what}: {kind} {name}'
                named_here = '' if (kind, name) == ('mask', 'gone') else named
                yield Case(case, what, arguments, partial(put, path, content), named_here)
