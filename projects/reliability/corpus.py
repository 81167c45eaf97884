"""Hostile files of every kind: each would leave a trace if it were executed.

And sound ones beside them, which must be read.
"""

import argparse
import json
import os
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import torch
import yaml
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
    lay(folder, dict.fromkeys(('evil.py', 'modules/mc.py'), f'{CODE}\nmodel = dict()\n'))
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
    meta, program = whole['meta'], f'{CODE}\nmodel = dict()\n'
    init_cfg = dict(type='Pretrained', checkpoint='added_system.pth')
    backbone = dict(type='VisionTransformer', init_cfg=init_cfg)
    for name, part in dict(
        meta_config=dict(config=program),
        meta_cfg=dict(cfg=program),
        model_dotted=in_config(type='os.system', command=SHELL),
        model_clip=in_config(type='mmpretrain.CLIPGenerator', tokenizer_path='added_system.pth'),
        model_pretrained=in_config(type='mmpretrain.ImageClassifier', backbone=backbone),
        imports=dict(cfg="custom_imports = dict(imports=['evil'])\n" + meta['cfg']),
    ).items():
        changed[name] = dict(whole, meta=meta | part)
    paths = []
    for name, content in changed.items():
        for archive in (True, False):
            paths.append(folder / f'{name}{"" if archive else "_old"}.pth')
            torch.save(content, paths[-1], _use_new_zipfile_serialization=archive)
    for name, program in PROGRAMS.items():
        paths += [*lay_each(folder, {f'{name}.pth': program}), folder / f'{name}_zip.pth']
        write_archive(paths[-1], program.encode('latin1'))
    header = json.dumps(dict(a=dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42]))).encode()
    lies = len(header).to_bytes(8, 'little') + header
    return paths + lay_each(folder, {'lies.safetensors': lies})


def in_config(**model) -> dict:
    return dict(cfg=f'model = {model!r}\n')


def write_archive(path: Path, program: bytes) -> None:
    """As torch.save does, of a pickle of one's own."""
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('archive/data.pkl', program)
        file.writestr('archive/byteorder', 'little')


def in_loaders(text: str) -> str:
    return f'train_dataloader: {text}\ntest_dataloader: {text}'


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
    pipeline=in_loaders('{dataset: {pipeline: [{type: os.system, command: touch ran}]}}'),
    collate=in_loaders('{collate_fn: {type: os.system}}'),
    runner='runner_type: os.system',
    visualizer='visualizer: {type: os.system, command: touch ran}',
    weights='load_from: added_system.pth',
    pretrained='model: {backbone: {init_cfg: {type: Pretrained, checkpoint: added_system.pth}}}',
    nms='model: {test_cfg: {nms: {type: exec("open(1)")}}}',
    teacher='model: {teacher_config: evil.py}',
    dtype=in_loaders("""{dataset: {pipeline: [{type: torchvision/ConvertImageDtype,
  dtype: "half if __import__('evil') else 0"}]}}"""),
    memcached=in_loaders("""{dataset: {pipeline: [{type: LoadImageFromFile, backend_args:
  {backend: memcached, server_list_cfg: a, client_cfg: a, sys_path: modules}}]}}"""),
)


def lay(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files, by their names in the folder, which is given back."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode('latin1'))
    return folder


def lay_each(folder: Path, files: dict[str, str | bytes]) -> list[Path]:
    """Likewise; the paths of the files are given back."""
    return [lay(folder, files) / name for name in files]


def write_configs(folder: Path) -> list[Path]:
    texts = {
        f'{name}.yaml': f'{text}\n' if '_base_' in text else f'_base_: tiny.json\n{text}\n'
        for name, text in CONFIGS.items()
    }
    for name in ('imports', 'model', 'hook'):  # the same in JSON, flow style being both
        texts[f'{name}.json'] = json.dumps(yaml.safe_load(texts[f'{name}.yaml']))
    return lay_each(folder, texts)


# Configs of one's own that read data of anybody.
BOTH = "_base_ = 'tiny.py'\ntrain_dataloader = test_dataloader = dict(dataset={})\n"
READERS = {
    'pickled_list.py': BOTH.format(
        "dict(type='mmengine.BaseDataset', ann_file='list.pkl', _delete_=True)"
    ),
    'listed.py': BOTH.format("dict(ann_file='list.pkl')"),
    'pickled_maps.py': """
_base_ = 'tokens.py'
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='mmtlalign.LoadTokenLabels', store='maps_evil'),
    dict(type='mmtlalign.RandomResizedCrop', scale=16),
    dict(type='PackInputs', algorithm_keys=('token_labels', ))]))
""",
}


def write_data(folder: Path) -> list[Path]:
    index = dict(format=2, num_images=12, grid=[6, 6], top_k=2, score_mode='probs')
    index = json.dumps(dict(index, classes=['class0']))
    lay(folder, {'list.pkl': PROGRAMS['reduce'], 'maps_evil/index.json': index})
    for name in ('ids', 'scores', 'rectangles', 'checks', 'sums', 'done'):
        array = np.array([OBJECTS['system']], dtype=object)
        np.save(folder / f'maps_evil/{name}.npy', array, allow_pickle=True)
    return lay_each(folder, READERS)


def write_images(folder: Path) -> list[Path]:
    """Names that a shell would run, and contents that other readers would."""
    image = cv2.imencode('.png', np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    names = ('$(touch ran).png', '`touch ran`.png', 'a;touch ran;.png', 'a\x1b[31m\n.png')
    contents = {
        'pickle.png': PROGRAMS['reduce'],
        'script.png': f'#!/bin/sh\ntouch {TRACE}\n',
        'magick.png': f'push graphic-context\nimage over 0,0 0,0 "|touch {TRACE}"\n',
    }
    return lay_each(folder, dict.fromkeys(names, image) | contents)


# JSON of figures, and logs, one object a line.
TEXTS = dict(
    python=f'{{"a": __import__("os").system("touch {TRACE}")}}',
    deep='[' * 100_000,
    nan='{"step": NaN, "loss": Infinity, "accuracy/top1": NaN}',
    name='{"step": 1, "\\u001b[31m\\n$(touch ran)": 1}',
    pickled=PROGRAMS['reduce'],
)


def write_texts(folder: Path, kind: str) -> list[Path]:
    return lay_each(folder, {f'{kind}_{name}.json': text for name, text in TEXTS.items()})


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
    sound = {
        '20260101_000000/vis_data/scalars.json': '{"loss": 1.0, "step": 1}\n',
        'epoch_3.pth': trained.read_bytes(),
    }
    return [
        lay(folder / f'run_{name}', dict(sound, **{'tiny.py': f'{cfg}\n{text}\n'}))
        for name, text in RUNS.items()
    ]


def write_hubs(folder: Path) -> list[Path]:
    """Folders of the hub whose weights are a pickle, or whose record is none."""
    records = dict(pickle='{}', list='[]', record='{"mmtlalign": [1]}')
    return [
        lay(
            folder / f'hub_{name}', {'config.json': record, 'model.safetensors': PROGRAMS['reduce']}
        )
        for name, record in records.items()
    ]


def write_roots(folder: Path) -> list[Path]:
    """Checkouts with a hostile index, and with a hostile metafile."""
    files = {
        'metafile.yml': CONFIGS['tag'],
        'models.yml': """
Collections: [{Name: a}]
Models: [{Name: model, In Collection: a, Config: model.yaml}]
""",
        'README.md': '',
        'model.yaml': 'model: {type: os.system, command: touch ran}',
    }
    indices = dict(
        index='!!python/object/apply:os.system [touch ran]',
        metafile='Import: [metafile.yml]',
        config='Import: [models.yml]',
    )
    return [
        lay(folder / f'root_{name}', {'model-index.yml': index, **files})
        for name, index in indices.items()
    ]


def write_voc(folder: Path) -> list[Path]:
    """Pascal VOC whose lists and names lead out of the folder."""
    entity = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">%s]>' % ''.join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    roots = []
    for name, head, body, listed in (
        ('entity', entity, '&x;', 'a'),
        ('bomb', bomb, '&j;', 'a'),
        ('outside', '', '../../x', '../../x'),
        ('shell', '', '$(touch ran)', '$(touch ran)'),
    ):
        files = {f'ImageSets/Main/{split}.txt': f'{listed}\n' for split in ('train', 'val')}
        xml = f'{head}<annotation><filename>{body}</filename></annotation>'
        roots.append(lay(folder / f'bccd_{name}', {'Annotations/a.xml': xml, **files}))
        (roots[-1] / 'JPEGImages').mkdir(exist_ok=True)
    return roots


def write_camvid(folder: Path) -> list[Path]:
    parts = ('train', 'trainannot', 'val', 'valannot')
    files = {f'{part}/$(touch ran).png': PROGRAMS['reduce'] for part in parts}
    return [lay(folder / 'camvid', files)]


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
