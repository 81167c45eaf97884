"""tools/export_model.py: what the files compute, and when there is none.

Expected values come from the built model, on images normalized by hand.
"""

import importlib.util
import json
import re
import sys
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn

import mmtlalign
from mmtlalign.apis import exporting
from mmtlalign.commands import export as export_model
from mmtlalign.errors import UserError
from mmtlalign.resources import find_config
from projects.reliability.tasks import DETECTOR

from ..conftest import needs_operators
from ..tiny import CONFIG as TWO_LAYERS
from ..tiny import ROOT, run
from .test_publish_hf import make_config

CONFIG = TWO_LAYERS.replace('num_layers=2', 'num_layers=1')
LVVIT = CONFIG.replace("'VisionTransformer'", "'mmtlalign.LVViT'")
SWIN = make_config('swin').pretty_text
DISTILLED = make_config('deit').pretty_text
SEGMENTER = """
_base_ = '{}'
data_preprocessor = dict(
    mean=[120., 110., 100.], std=[60., 50., 40.], test_cfg=dict(size_divisor=64))
model = dict(data_preprocessor=data_preprocessor)
"""
SWIN_UPERNET, VIT_UPERNET = (
    SEGMENTER.format(find_config(name))
    for name in (
        'tlalign-swin-mini_upernet_1xb4-500_digits-scenes',
        'tlalign-deit-mini_upernet_1xb4-600_camvid-120x90',  # whose backbone takes any size
    )
)
SWIN_UPERNET += "model['backbone'] = dict(arch=dict(depths=[2, 1, 1]))\n"
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ([120.0, 110.0, 100.0], [60.0, 50.0, 40.0]))
FIXED = '--shape 18 30 --batch 2 --backbone-only'
ANY_SIZE = [(1, 3, 16, 16), (2, 3, 16, 28), (5, 3, 8, 36)]

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in exporting.ONNX_PACKAGES),
    reason='ONNX is not installed; run `pip install -r requirements/export.txt`',
)


def export_in(folder, config, out, *arguments):
    """Export a config with known weights; return model, file and metadata."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / 'tiny.py').write_text(config)
        model = mmtlalign.get_model('tiny.py')
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        meta = dict(dataset_meta=dict(classes=('a', 'b', 'c')))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), 'a.pth')
        export_model.main(['tiny.py', 'a.pth', '--out', out, *arguments])
    return model.requires_grad_(False), *read(folder / out)


def read(path):
    """A function of float32 RGB images, and the metadata; nothing of ours."""
    if path.suffix == '.pt2':
        extra = {'metadata.json': ''}
        program = torch.export.load(path, extra_files=extra)
        return program.module(), json.loads(extra['metadata.json'])
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return (
        lambda images: list(map(torch.tensor, session.run(None, {'images': images.numpy()}))),
        session.get_modelmeta().custom_metadata_map,
    )


@pytest.fixture
def export(tmp_path):
    """Config, name of the file, and arguments; see export_in."""
    return partial(export_in, tmp_path)


@pytest.fixture(scope='module', params=['.pt2', pytest.param('.onnx', marks=needs_onnx)])
def vit(request, tmp_path_factory):
    """A ViT for images of any size, exported once: its file, and as above."""
    folder = tmp_path_factory.mktemp('vit')
    name = f'deit-mini{request.param}'
    return folder / name, *export_in(folder, CONFIG, name, '--dynamic')


def images_of(*size):
    """Images, 0 to 255."""
    return torch.randint(256, size).float()


def close(found, expected):
    scale = float(expected.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.slow
def test_a_plain_vit_takes_any_number_and_size(vit):
    path, _, run, about = vit
    # aligned labels are of training: the stock classifier computes the same
    config = Config.fromfile(path.parent / 'tiny.py')
    config.model.update(type='mmpretrain.ImageClassifier', train_cfg=None)
    config.model.head.type = 'VisionTransformerClsHead'
    stock = mmtlalign.get_model(config, path.parent / 'a.pth')
    for size in ANY_SIZE:
        images = images_of(*size)
        (logits,) = run(images)
        assert logits.shape == (size[0], 3)
        close(logits, stock((images - 127) / 60).detach())
    told = {key: json.loads(about[key]) for key in ('classes', 'mean', 'std', 'outputs')}
    assert told == dict(classes=['a', 'b', 'c'], mean=[127] * 3, std=[60] * 3, outputs=['logits'])
    assert 'H and W multiples of 4 from 8 on, 0 to 255' in about['images']
    assert about['mmtlalign'] == mmtlalign.__version__
    assert (about['name'], about['task']) == ('tiny', 'classification')


@pytest.mark.slow
def test_files_name_no_folder_of_this_machine(vit):
    path = vit[0]
    parts = [path.read_bytes()]
    if path.suffix == '.pt2':
        with zipfile.ZipFile(path) as archive:
            parts += map(archive.read, archive.namelist())
    for folder in (path.parent, ROOT, sys.prefix):
        assert not any(str(folder).encode() in part for part in parts)


@pytest.mark.slow
def test_the_snippets_of_the_page(vit, monkeypatch, capsys):
    path, model, *_ = vit
    page = (ROOT / 'docs/export.md').read_text()
    snippets = re.findall(r'```python\n(.*?)```', page, re.S)
    (snippet,) = (text for text in snippets if path.name in text)
    photo = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    Image.fromarray(photo).save(path.with_name('photo.png'))
    monkeypatch.chdir(path.parent)
    exec(snippet, {})
    image = np.array(Image.open('photo.png').resize((32, 32)))
    logits = model((torch.tensor(image).permute(2, 0, 1)[None] - 127.0) / 60.0)
    assert capsys.readouterr().out.split() == ['tiny', 'says', 'abc'[logits.argmax()]]


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, options, sizes, compute',
    [
        (LVVIT, '--dynamic', ANY_SIZE, lambda model, x: [model(x)]),
        (DISTILLED, '--dynamic --backbone-only', ANY_SIZE, lambda model, x: model.backbone(x)[0]),
        (DETECTOR, FIXED, [(2, 3, 18, 30)], lambda model, x: model.backbone(x)),
    ],
    ids=['LV-ViT', 'distilled', 'detector'],
)
def test_what_files_compute(export, config, options, sizes, compute):
    if config is DETECTOR:
        needs_operators()
    model, run, about = export(config, 'tiny.pt2', *options.split())
    preprocess = model.data_preprocessor
    for size in sizes:
        images = images_of(*size)
        expected = compute(model, (images - preprocess.mean) / preprocess.std)
        for found, other in zip(run(images), expected, strict=True):
            close(found, other)
    if 'backbone' in options:
        names = [f'feature_{i}' for i in range(len(expected))]
        assert json.loads(about['outputs']) == names and about['task'] == 'backbone'
        assert len(list(run.parameters())) == len(list(model.backbone.parameters()))
    if options == FIXED:
        assert about['images'] == 'float32, 2 x 3 x 18 x 30, 0 to 255, RGB; normalized inside'
        with pytest.raises(Exception, match='(?s)18|Guard'):
            run(images_of(2, 3, 30, 18))


@pytest.mark.parametrize('loads', [True, False])
@pytest.mark.parametrize('to_rgb', [True, False])
def test_the_channel_order_is_that_of_the_training(loads, to_rgb):
    """Files are BGR and images in memory RGB, unless they are swapped."""
    cfg = Config.fromstring(CONFIG, '.py')
    cfg.data_preprocessor.to_rgb = to_rgb
    del cfg.train_dataloader.dataset.pipeline[: not loads]
    network = exporting.Network(mmtlalign.get_model(cfg), False)
    about = exporting.describe(network, 'a', ['logits'], (1, 3, 16, 16))
    order = 'RGB' if to_rgb == loads else 'BGR'
    assert f', 0 to 255, {order}; normalized inside' in about['images']


@pytest.mark.slow
@needs_onnx
def test_segmenters_put_out_logits_of_the_size_of_images(export, tmp_path):
    import onnx

    needs_operators()
    # not divisible by anything: pooled unevenly, and padded by Swin
    model, run, about = export(SWIN_UPERNET, 'tiny.onnx', '--shape', '22', '34')
    images = images_of(1, 3, 22, 34)
    (logits,) = run(images)
    assert logits.shape == (1, 11, 22, 34)
    expected = nn.functional.interpolate(model((images - MEAN) / STD), (22, 34), mode='bilinear')
    close(logits, expected)
    assert about['task'] == 'segmentation'
    names = [weight.name for weight in onnx.load(tmp_path / 'tiny.onnx').graph.initializer]
    assert any('decode_head' in name for name in names)
    assert not any('auxiliary_head' in name for name in names)


@pytest.mark.parametrize(
    'config, size, reason',
    [
        (SWIN, '--dynamic', '--dynamic .*SwinTransformer lays out its windows.*--shape H W'),
        (VIT_UPERNET, '--dynamic', '--dynamic .*a segmenter pools.*--shape H W'),
        (DETECTOR, '--shape 32 32', 'FasterRCNN is neither .* --backbone-only'),
    ],
    ids=['Swin', 'UPerNet', 'detector'],
)
def test_what_there_is_no_file_of(export, tmp_path, config, size, reason):
    if config is not SWIN:
        needs_operators()
    with pytest.raises(UserError, match=reason):
        export(config, 'tiny.pt2', *size.split())
    assert not (tmp_path / 'tiny.pt2').exists()


def scaled(factor):
    """What a file computes, times a factor."""
    return lambda load: lambda path: lambda images: [v * factor for v in load(path)(images)]


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, broken, complaint',
    [
        ('load', scaled(1.001), r'differs from the model by .* 0\.0001, on images of 16x20 px; it'),
        ('load', scaled(torch.nan), 'is not finite; it was deleted'),
        (
            'Network.forward',
            lambda forward: lambda self, images: self.compute(images / self.std),
            'differs from the model',
        ),
        (
            'Network.compute',
            lambda compute: lambda self, inputs: 1 / 0,
            'cannot trace TLAlignClassifier on images of 16x20 px: division by zero',
        ),
    ],
    ids=['other values', 'nan', 'normalization', 'untraceable'],
)
def test_a_wrong_file_is_not_left(export, tmp_path, monkeypatch, name, broken, complaint):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/tiny.pt2').write_text('what was there before')
    whole = exporting.load if name == 'load' else getattr(exporting.Network, name[8:])
    monkeypatch.setattr(f'mmtlalign.apis.exporting.{name}', broken(whole))
    with pytest.raises(UserError, match=complaint):
        export(CONFIG, 'out/tiny.pt2', '--shape', '16', '20')
    (left,) = (tmp_path / 'out').iterdir()
    assert left.read_text() == 'what was there before'


@pytest.mark.parametrize('shape, patches', [((2, 2), '1x1'), ((4, 16), '1x4'), ((5, 8), None)])
def test_a_single_row_of_patches_is_not_for_onnx(shape, patches):
    network = exporting.Network(mmtlalign.get_model(Config.fromstring(CONFIG, '.py')), False)
    if not patches:
        return exporting.check_patches(network, *shape)
    said = f'--shape .* is {patches} patches of 4 px, .* give sides of 8 px or more, or write a .p'
    with pytest.raises(UserError, match=said):
        exporting.check_patches(network, *shape)


@pytest.mark.slow
def test_no_word_of_operators_that_are_not_needed(tmp_path):
    hide = "import sys\nsys.modules['mmcv.ops.multi_scale_deform_attn'] = None\n"
    code = f'{hide}import mmtlalign.commands\nimport mmcv.cnn.bricks.transformer'
    process = run([sys.executable, '-c', code], tmp_path)
    assert (process.returncode, process.stderr) == (0, '')


@pytest.mark.parametrize('out, complaint', [('a.pt2', 'is a folder'), ('a.onnx', 'pip install -r')])
def test_what_is_told_before_anything_is_built(tmp_path, monkeypatch, out, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.pt2').mkdir()
    monkeypatch.setattr(export_model, 'get_model', None)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match=complaint):
        export_model.main(['tiny.py', '--out', out, '--dynamic'])
