"""Hostile files of every kind: each would leave a trace if it were executed.

And sound ones beside them, which must be read.
"""

import argparse
import json
import os
import pickle
import shutil
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import cv2
import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from torch import nn

TRACE = 'ran'  # the file that is there if anything was executed


class Call:
    """Stands in a pickle for what a call gives."""

    def __init__(self, function: Callable, *arguments) -> None:
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def through_getattr(code: str) -> Call:
    """Calls exec by what mmengine's list of allowed names holds."""

    def call(function, kind, *arguments):
        return Call(torch._tensor._rebuild_from_type_v2, function, kind, arguments, None)

    scope = Call(getattr, HistoryBuffer.mean, '__globals__')
    builtins = call(Call(getattr, scope, 'get'), Call(getattr, scope, '__class__'), '__builtins__')
    run = call(Call(getattr, builtins, 'get'), Call(getattr, HistoryBuffer, '__class__'), 'exec')
    run.reduced[1][1].reduced = Call(getattr, Call(getattr, builtins, 'get'), '__class__').reduced
    return call(run, Call(getattr, None, '__class__'), code)


class Module(nn.Linear):
    """Leaves the trace when it is unpickled."""

    def __reduce__(self):
        return os.system, (f'touch {TRACE}',)


def write_corpus(folder: Path, trained: Path) -> dict[str, list[Path]]:
    """Write everything hostile.

    Args:
        folder (Path): To write to; relative names in the files are those of
            the bench that it is copied to.
        trained (Path): A checkpoint, to which code is added.

    Returns:
        dict[str, list[Path]]: By kind, as entry points name them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('evil.py', 'modules/mc.py'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"open('{TRACE}', 'w').close()\nmodel = dict()\n")
    return dict(
        checkpoint=write_checkpoints(folder, trained),
        config=[*write_configs(folder), *write_data(folder)],
        image=write_images(folder),
        json=write_texts(folder, 'json'),
        log=write_texts(folder, 'log'),
        root=write_roots(folder),
        run=write_runs(folder, trained),
        hub=write_hubs(folder),
        bccd=write_voc(folder),
        camvid=write_camvid(folder),
    )


SHELL, CODE = f'touch {TRACE}', f"open('{TRACE}', 'w').close()"
# What calls something when a pickle that holds it is read.
OBJECTS = dict(
    system=Call(os.system, SHELL),
    exec=Call(exec, CODE),
    getattr=through_getattr(CODE),
    rebuilder=Call(torch._tensor._rebuild_from_type_v2, os.system, int, (SHELL,), None),
    default=defaultdict(os.getcwd, a=Call(os.system, SHELL)),
    array=np.array([Call(os.system, SHELL), None]),
    nested=Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, SHELL))),
    module=Module(1, 1),
    namespace=argparse.Namespace(a=Call(os.system, SHELL)),
)
# Pickles by hand, by the operation that calls.
PROGRAMS = dict(
    inst=f"(S'{SHELL}'\nios\nsystem\n.",
    obj=f"(cos\nsystem\nS'{SHELL}'\no.",
    reduce=f"cos\nsystem\n(S'{SHELL}'\ntR.",
    newobj=f"csubprocess\nPopen\nS'{SHELL}'\n\x85\x81.",
)


def write_checkpoints(folder: Path, trained: Path) -> list[Path]:
    whole = torch.load(trained, weights_only=False)
    changed = {f'added_{name}': dict(whole, more=part) for name, part in OBJECTS.items()}
    changed['hub'] = dict(whole, message_hub=OBJECTS['system'])
    changed['optimizer'] = dict(whole, optimizer=OBJECTS['exec'])
    meta = whole['meta']
    program = f'{CODE}\nmodel = dict()\n'
    changed['meta_config'] = dict(whole, meta=dict(meta, config=program, cfg=meta['cfg']))
    changed['meta_cfg'] = dict(whole, meta=dict(meta, cfg=program))
    init_cfg = dict(type='Pretrained', checkpoint='added_system.pth')
    backbone = dict(type='VisionTransformer', init_cfg=init_cfg)
    for name, model in {
        'dotted': dict(type='os.system', command=SHELL),
        'clip': dict(type='mmpretrain.CLIPGenerator', tokenizer_path='added_system.pth'),
        'pretrained': dict(type='mmpretrain.ImageClassifier', backbone=backbone),
    }.items():
        changed[f'model_{name}'] = dict(whole, meta=dict(meta, cfg=f'model = {model!r}\n'))
    imports = "custom_imports = dict(imports=['evil'])\n"
    changed['imports'] = dict(whole, meta=dict(meta, cfg=imports + meta['cfg']))
    paths = []
    for name, content in changed.items():
        for archive in (True, False):
            paths.append(folder / f'{name}{"" if archive else "_old"}.pth')
            torch.save(content, paths[-1], _use_new_zipfile_serialization=archive)
    for name, program in PROGRAMS.items():
        paths += [folder / f'{name}.pth', folder / f'{name}_zip.pth']
        paths[-2].write_bytes(program.encode('latin1'))
        write_archive(paths[-1], program.encode('latin1'))
    paths.append(folder / 'lies.safetensors')
    header = json.dumps(dict(a=dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42]))).encode()
    paths[-1].write_bytes(len(header).to_bytes(8, 'little') + header)
    return paths


def write_archive(path: Path, program: bytes) -> None:
    """As torch.save does, of a pickle of one's own."""
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('archive/data.pkl', program)
        file.writestr('archive/byteorder', 'little')


# What makes the tiny config hostile, in YAML.
CONFIGS = dict(
    tag='a: !!python/object/apply:os.system [touch ran]',
    new='a: !!python/object/new:os.system [touch ran]',
    module='a: !!python/module:evil',
    base='_base_: [tiny.json, evil.py]',
    hidden_base='"{{$NOT_SET:_base_}}": [tiny.json, evil.py]',
    imports='custom_imports: {imports: [evil], allow_failed_imports: false}',
    model='model: {_delete_: true, type: os.system, command: touch ran}',
    backbone='model: {backbone: {_delete_: true, type: os.system, command: touch ran}}',
    bare='model: {backbone: {_delete_: true, type: evil}}',
    scope='default_scope: evil',
    constructor='optim_wrapper: {constructor: os.system}',
    hook='custom_hooks: [{type: os.system, command: touch ran}]',
    preprocessor='data_preprocessor: {type: os.system, command: touch ran}',
    pipeline="""train_dataloader: {dataset: {pipeline: [{type: os.system, command: touch ran}]}}
test_dataloader: {dataset: {pipeline: [{type: os.system, command: touch ran}]}}""",
    collate="""train_dataloader: {collate_fn: {type: os.system}}
test_dataloader: {collate_fn: {type: os.system}}""",
    runner='runner_type: os.system',
    visualizer='visualizer: {type: os.system, command: touch ran}',
    weights='load_from: added_system.pth',
    pretrained='model: {backbone: {init_cfg: {type: Pretrained, checkpoint: added_system.pth}}}',
    nms='model: {test_cfg: {nms: {type: exec("open(1)")}}}',
    teacher='model: {teacher_config: evil.py}',
    dtype="""train_dataloader: {dataset: {pipeline: [{type: torchvision/ConvertImageDtype,
  dtype: "half if __import__('evil') else 0"}]}}
test_dataloader: {dataset: {pipeline: [{type: torchvision/ConvertImageDtype,
  dtype: "half if __import__('evil') else 0"}]}}""",
    memcached="""train_dataloader: {dataset: {pipeline: [{type: LoadImageFromFile, backend_args:
  {backend: memcached, server_list_cfg: a, client_cfg: a, sys_path: modules}}]}}
test_dataloader: {dataset: {pipeline: [{type: LoadImageFromFile, backend_args:
  {backend: memcached, server_list_cfg: a, client_cfg: a, sys_path: modules}}]}}""",
)


def write_configs(folder: Path) -> list[Path]:
    paths = []
    for name, text in CONFIGS.items():
        paths.append(folder / f'{name}.yaml')
        base = '' if '_base_' in text else '_base_: tiny.json\n'
        paths[-1].write_text(f'{base}{text}\n')
    for name in ('imports', 'model', 'hook'):  # the same in JSON, flow style being both
        import yaml

        paths.append(folder / f'{name}.json')
        content = yaml.safe_load((folder / f'{name}.yaml').read_text())
        paths[-1].write_text(json.dumps(content))
    return paths


def write_data(folder: Path) -> list[Path]:
    """Configs of one's own that read data of anybody."""
    (folder / 'list.pkl').write_bytes(PROGRAMS['reduce'].encode())
    tiny = "_base_ = 'tiny.py'\n"
    both = 'train_dataloader = dict(dataset={0})\ntest_dataloader = dict(dataset={0})\n'
    texts = dict(
        pickled_list=tiny
        + both.format("dict(type='mmengine.BaseDataset', ann_file='list.pkl', _delete_=True)"),
        listed=tiny + both.format("dict(ann_file='list.pkl')"),
        pickled_maps=(
            "_base_ = 'tokens.py'\ntrain_dataloader = dict(dataset=dict(pipeline=[\n"
            "    dict(type='LoadImageFromFile'),\n"
            "    dict(type='mmtlalign.LoadTokenLabels', store='maps_evil'),\n"
            "    dict(type='mmtlalign.RandomResizedCrop', scale=16),\n"
            "    dict(type='PackInputs', algorithm_keys=('token_labels', ))]))\n"
        ),
    )
    for name, text in texts.items():
        (folder / f'{name}.py').write_text(text)
    maps = folder / 'maps_evil'
    maps.mkdir(exist_ok=True)
    index = dict(format=2, num_images=12, grid=[6, 6], top_k=2, score_mode='probs')
    (maps / 'index.json').write_text(json.dumps(dict(index, classes=['class0'])))
    for name in ('ids', 'scores', 'rectangles', 'checks', 'sums', 'done'):
        array = np.array([OBJECTS['system']], dtype=object)
        np.save(maps / f'{name}.npy', array, allow_pickle=True)
    return [folder / f'{name}.py' for name in texts]


def write_images(folder: Path) -> list[Path]:
    """Names that a shell would run, and contents that other readers would."""
    image = cv2.imencode('.png', np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    names = ('$(touch ran).png', '`touch ran`.png', 'a;touch ran;.png', 'a\x1b[31m\n.png')
    for name in names:
        (folder / name).write_bytes(image)
    (folder / 'pickle.png').write_bytes((folder / 'list.pkl').read_bytes())
    (folder / 'script.png').write_text(f'#!/bin/sh\ntouch {TRACE}\n')
    (folder / 'magick.png').write_text(
        f'push graphic-context\nimage over 0,0 0,0 "|touch {TRACE}"\n'
    )
    return [folder / name for name in (*names, 'pickle.png', 'script.png', 'magick.png')]


def write_texts(folder: Path, kind: str) -> list[Path]:
    """JSON of figures, and logs, one object a line."""
    bodies = dict(
        python=f'{{"a": __import__("os").system("touch {TRACE}")}}',
        deep='[' * 100_000,
        nan='{"step": NaN, "loss": Infinity, "accuracy/top1": NaN}',
        name='{"step": 1, "\\u001b[31m\\n$(touch ran)": 1}',
        pickled=PROGRAMS['reduce'],
    )
    for name, body in bodies.items():
        (folder / f'{kind}_{name}.json').write_text(body)
    return [folder / f'{kind}_{name}.json' for name in bodies]


# What makes a work dir hostile: entries that take the place of those of its config.
RUNS = dict(
    program="open('ran', 'w')",
    model="model = dict(type='os.system', command='touch ran')",
    clip="model = dict(type='mmpretrain.CLIPGenerator', tokenizer_path='added_system.pth')",
    dataset="val_dataloader = dict(dataset=dict(type='os.system', command='touch ran'))",
    bare="val_dataloader = dict(dataset=dict(type='evil'))",
    imports="custom_imports = dict(imports=['evil'])",
    pipeline="val_dataloader = dict(dataset=dict(type='CustomDataset', data_root='images',"
    " pipeline=[dict(type='os.system', command='touch ran')]))",
)


def write_runs(folder: Path, trained: Path) -> list[Path]:
    """Work dirs with a log, a sound checkpoint, and a config that is not."""
    cfg = torch.load(trained, weights_only=False)['meta']['cfg']
    paths = []
    for name, text in RUNS.items():
        paths.append(folder / f'run_{name}')
        log = paths[-1] / '20260101_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('{"loss": 1.0, "step": 1}\n')
        shutil.copy(trained, paths[-1] / 'epoch_3.pth')
        (paths[-1] / 'tiny.py').write_text(f'{cfg}\n{text}\n')
    return paths


def write_hubs(folder: Path) -> list[Path]:
    """Folders of the hub whose weights are a pickle, or whose record is none."""
    paths = [folder / f'hub_{name}' for name in ('pickle', 'list', 'record')]
    for path, text in zip(paths, ('{}', '[]', '{"mmtlalign": [1]}')):
        path.mkdir(exist_ok=True)
        (path / 'config.json').write_text(text)
        (path / 'model.safetensors').write_bytes(PROGRAMS['reduce'].encode())
    return paths


def write_roots(folder: Path) -> list[Path]:
    """Checkouts with a hostile index, and with a hostile metafile."""
    roots = []
    for name, index in (
        ('index', '!!python/object/apply:os.system [touch ran]'),
        ('metafile', 'Import: [metafile.yml]'),
        ('config', 'Import: [models.yml]'),
    ):
        roots.append(folder / f'root_{name}')
        roots[-1].mkdir(exist_ok=True)
        models = 'Models: [{Name: model, In Collection: a, Config: model.yaml}]\n'
        for file, text in {
            'model-index.yml': index,
            'metafile.yml': CONFIGS['tag'],
            'models.yml': f'Collections: [{{Name: a}}]\n{models}',
            'README.md': '',
            'model.yaml': 'model: {type: os.system, command: touch ran}',
        }.items():
            (roots[-1] / file).write_text(text)
    return roots


def write_voc(folder: Path) -> list[Path]:
    """Pascal VOC whose lists and names lead out of the folder."""
    roots = []
    entity = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">%s]>' % ''.join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    for name, head, body, listed in (
        ('entity', entity, '&x;', 'a'),
        ('bomb', bomb, '&j;', 'a'),
        ('outside', '', escape('../../x'), '../../x'),
        ('shell', '', escape('$(touch ran)'), '$(touch ran)'),
    ):
        root = folder / f'bccd_{name}'
        for part in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
            (root / part).mkdir(parents=True, exist_ok=True)
        xml = f'{head}<annotation><filename>{body}</filename></annotation>'
        (root / 'Annotations/a.xml').write_text(xml)
        for split in ('train', 'val'):
            (root / f'ImageSets/Main/{split}.txt').write_text(f'{listed}\n')
        roots.append(root)
    return roots


def write_camvid(folder: Path) -> list[Path]:
    root = folder / 'camvid'
    for part in ('train', 'trainannot', 'val', 'valannot'):
        (root / part).mkdir(parents=True, exist_ok=True)
        (root / part / '$(touch ran).png').write_bytes((folder / 'list.pkl').read_bytes())
    return [root]


def sound_parts() -> dict:
    """By name, what checkpoints in use hold beside weights; all are read."""
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    return dict(
        numpy=dict(a=np.arange(3), b=np.float64(0.5), c=np.array(['x']), d=np.dtype('int16')),
        collections=[OrderedDict(a=1), Counter('aab'), defaultdict(dict, a={}), {1}, 1j],
        torch=[torch.Size([1]), torch.float16, torch.device('cpu'), nn.Parameter(torch.ones(2))],
        buffer=buffer,
        config=ConfigDict(a=ConfigDict(b=1)),
        namespace=argparse.Namespace(lr=0.1),
        path=PurePosixPath('a/b'),
        halves=[torch.ones(2).half(), torch.ones(2).bfloat16(), torch.ones(2).int()],
    )
