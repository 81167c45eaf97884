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

from ..conftest import needs_operators
from ..tiny import CONFIG as TWO_LAYERS
from ..tiny import ROOT, run
from .test_dense_tasks import DETECTOR

ARCH = """arch=dict(embed_dims=16, num_layers=2, num_heads=2,
                  feedforward_channels=32), img_size=16, patch_size=4,"""

CONFIG = TWO_LAYERS.replace('num_layers=2', 'num_layers=1')
LVVIT = CONFIG.replace("'VisionTransformer'", "'mmtlalign.LVViT'")

SWIN_BACKBONE = """backbone=dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=8, depths=[2, 1], num_heads=[2, 2]),
        img_size=16, patch_size=2, window_size=4, pad_small_map=True,
        out_indices=%s),"""

SWIN = f"""
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(mean=[90., 100., 110.], std=[50., 60., 70.],
                           to_rgb=True),
    {SWIN_BACKBONE % '(1,)'}
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=16))
"""

DISTILLED = f"""
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='DistilledVisionTransformer', {ARCH}),
    head=dict(type='DeiTClsHead', num_classes=3, in_channels=16,
              loss=dict(type='CrossEntropyLoss')))
""".replace('num_layers=2', 'num_layers=1')

UPERNET = f"""
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[90., 100., 110.],
        std=[50., 60., 70.], bgr_to_rgb=True, test_cfg=dict(size_divisor=64)),
    {SWIN_BACKBONE % '(0, 1)'}
    decode_head=dict(
        type='UPerHead', in_channels=[8, 16], in_index=[0, 1], channels=8,
        pool_scales=(1, 2, 3), num_classes=2,
        norm_cfg=dict(type='GN', num_groups=2), align_corners=False),
    auxiliary_head=dict(
        type='FCNHead', in_channels=16, in_index=1, channels=8, num_convs=1,
        num_classes=2),
    test_cfg=dict(mode='whole'))
"""

FORMATS = [
    pytest.param(
        '.onnx',
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(name) is None for name in exporting.ONNX_PACKAGES),
            reason='ONNX is not installed; run `pip install -r requirements/export.txt`',
        ),
    ),
    '.pt2',
]


def run_tool_here(folder, config, out, *arguments):
    """Export a config with known weights; return model, file and metadata."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / 'tiny.py').write_text(config)
        model = mmtlalign.get_model('tiny.py')
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        torch.save(
            dict(
                state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('a', 'b', 'c')))
            ),
            'a.pth',
        )
        patch.setattr('sys.argv', ['export_model.py', 'tiny.py', 'a.pth', '--out', out, *arguments])
        export_model.main()
    return model.requires_grad_(False), *read(folder / out)


@pytest.fixture
def export(tmp_path):
    """Config, name of the file, and arguments; see run_tool_here."""
    return partial(run_tool_here, tmp_path)


@pytest.fixture(scope='module', params=FORMATS)
def vit(request, tmp_path_factory):
    """A ViT for images of any size, exported once: its file, and as above."""
    folder = tmp_path_factory.mktemp('vit')
    name = f'deit-mini{request.param}'
    return folder / name, *run_tool_here(folder, CONFIG, name, '--dynamic')


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


def images_of(*size):
    """Images, 0 to 255."""
    return torch.randint(256, size).float()


def close(found, expected):
    scale = float(expected.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale)


def channels(values):
    return torch.tensor(values)[:, None, None]


ANY_SIZE = [(1, 3, 16, 16), (2, 3, 16, 28), (5, 3, 8, 36)]


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
    assert json.loads(about['classes']) == ['a', 'b', 'c']
    assert json.loads(about['mean']) == [127] * 3
    assert json.loads(about['std']) == [60] * 3
    assert json.loads(about['outputs']) == ['logits']
    assert 'H and W multiples of 4 from 8 on, 0 to 255' in about['images']
    assert about['mmtlalign'] == mmtlalign.__version__
    assert (about['name'], about['task']) == ('tiny', 'classification')


def test_files_name_no_folder_of_this_machine(vit):
    path = vit[0]
    parts = [path.read_bytes()]
    if path.suffix == '.pt2':
        with zipfile.ZipFile(path) as archive:
            parts += map(archive.read, archive.namelist())
    for folder in (path.parent, ROOT, sys.prefix):
        assert not any(str(folder).encode() in part for part in parts)


def test_the_snippets_of_the_page(vit, monkeypatch, capsys):
    path, model, *_ = vit
    page = (ROOT / 'docs/export.md').read_text()
    (snippet,) = (
        text for text in re.findall(r'```python\n(.*?)```', page, re.S) if path.name in text
    )
    photo = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    Image.fromarray(photo).save(path.with_name('photo.png'))
    monkeypatch.chdir(path.parent)
    exec(snippet, {})
    image = np.array(Image.open('photo.png').resize((32, 32)))
    logits = model((torch.tensor(image).permute(2, 0, 1)[None] - 127.0) / 60.0)
    assert capsys.readouterr().out.split() == ['tiny', 'says', 'abc'[logits.argmax()]]


@pytest.mark.parametrize('suffix', FORMATS)
def test_lvvit(export, suffix):
    model, run, _ = export(LVVIT, f'tiny{suffix}', '--dynamic')
    for size in ANY_SIZE:
        images = images_of(*size)
        close(run(images)[0], model((images - 127) / 60))


@pytest.mark.parametrize('suffix', FORMATS)
def test_swin_takes_the_size_it_was_given(export, suffix):
    model, run, about = export(SWIN, f'tiny{suffix}', '--shape', '18', '30', '--batch', '2')
    images = images_of(2, 3, 18, 30)
    mean, std = channels([90.0, 100.0, 110.0]), channels([50.0, 60.0, 70.0])
    close(run(images)[0], model((images - mean) / std))
    assert about['images'] == ('float32, 2 x 3 x 18 x 30, 0 to 255, RGB; normalized inside')
    with pytest.raises(Exception, match='(?s)18|Guard'):
        run(images_of(2, 3, 30, 18))


@pytest.mark.parametrize('loads', [True, False])
@pytest.mark.parametrize('to_rgb', [True, False])
def test_the_channel_order_is_that_of_the_training(tmp_path, loads, to_rgb):
    """Files are BGR and images in memory RGB, unless they are swapped."""
    (tmp_path / 'a.py').write_text(CONFIG)
    cfg = Config.fromfile(tmp_path / 'a.py')
    cfg.data_preprocessor.to_rgb = to_rgb
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = pipeline[not loads :]
    network = exporting.Network(mmtlalign.get_model(cfg), False)
    about = exporting.describe(network, 'a', ['logits'], (1, 3, 16, 16))
    order = 'RGB' if to_rgb == loads else 'BGR'
    assert f', 0 to 255, {order}; normalized inside' in about['images']


@pytest.mark.parametrize('suffix', FORMATS)
def test_backbones(export, suffix):
    model, run, about = export(DISTILLED, f'tiny{suffix}', '--dynamic', '--backbone-only')
    for size in ANY_SIZE:
        images = images_of(*size)
        ((class_token, distillation_token),) = model.backbone(images)
        found = run(images)
        close(found[0], class_token)
        close(found[1], distillation_token)
    assert json.loads(about['outputs']) == ['feature_0', 'feature_1']
    assert about['task'] == 'backbone'


@pytest.mark.parametrize('suffix', FORMATS)
def test_segmenters_put_out_logits_of_the_size_of_images(export, suffix):
    needs_operators()
    # not divisible by anything: pooled unevenly, and padded by Swin
    model, run, about = export(UPERNET, f'tiny{suffix}', '--shape', '22', '34')
    images = images_of(1, 3, 22, 34)
    mean, std = channels([90.0, 100.0, 110.0]), channels([50.0, 60.0, 70.0])
    (logits,) = run(images)
    assert logits.shape == (1, 2, 22, 34)
    expected = nn.functional.interpolate(model((images - mean) / std), (22, 34), mode='bilinear')
    close(logits, expected)
    assert about['task'] == 'segmentation'
    if suffix == '.pt2':
        names = run.state_dict().keys()
        assert any('decode_head' in name for name in names)
        assert not any('auxiliary_head' in name for name in names)


def test_only_the_backbone_of_a_detector(export, tmp_path):
    needs_operators()
    with pytest.raises(UserError, match='FasterRCNN is neither .* --backbone-only'):
        export(DETECTOR, 'tiny.pt2', '--shape', '32', '32')
    assert not (tmp_path / 'tiny.pt2').exists()
    model, run, about = export(DETECTOR, 'tiny.pt2', '--shape', '32', '48', '--backbone-only')
    images = images_of(1, 3, 32, 48)
    preprocess = model.data_preprocessor
    expected = model.backbone((images - preprocess.mean) / preprocess.std)
    found = run(images)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected):
        close(one, other)
    assert len(list(run.parameters())) == len(list(model.backbone.parameters()))


@pytest.mark.parametrize(
    'config, reason',
    [
        (SWIN, 'SwinTransformer lays out its windows'),
        (
            UPERNET.replace(
                SWIN_BACKBONE % '(0, 1)',
                f"""backbone=dict(
        type='mmpretrain.VisionTransformer', out_type='featmap', {ARCH}
        out_indices=(0, 1)),""",
            ).replace('[8, 16]', '[16, 16]'),
            'a segmenter pools',
        ),
    ],
    ids=['Swin', 'UPerNet'],
)
def test_what_has_one_size_only(export, config, reason):
    if 'mmseg' in config:
        needs_operators()
    with pytest.raises(UserError, match=f'--dynamic .*{reason}.*--shape H W'):
        export(config, 'tiny.pt2', '--dynamic')


@pytest.mark.parametrize(
    'break_it, complaint',
    [
        (
            lambda value: value * 1.001,
            r'differs from the model by .* 0\.0001, on '
            'images of 16x16 px; it was deleted',
        ),
        (lambda value: value * torch.nan, 'is not finite; it was deleted'),
    ],
)
def test_a_wrong_file_is_not_left(export, tmp_path, monkeypatch, break_it, complaint):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/tiny.pt2').write_text('what was there before')
    load = exporting.load
    monkeypatch.setattr(
        exporting,
        'load',
        lambda path: lambda images: [break_it(value) for value in load(path)(images)],
    )
    with pytest.raises(UserError, match=complaint):
        export(CONFIG, 'out/tiny.pt2', '--shape', '16', '16')
    (left,) = (tmp_path / 'out').iterdir()
    assert left.read_text() == 'what was there before'


def test_wrong_normalization_is_noticed(export, monkeypatch):
    monkeypatch.setattr(
        exporting.Network, 'forward', lambda self, images: self.compute(images / self.std)
    )
    with pytest.raises(UserError, match='differs from the model'):
        export(CONFIG, 'tiny.pt2', '--shape', '16', '16')


def test_a_backbone_that_cannot_be_traced(export, monkeypatch):
    def compute(self, inputs):
        raise RuntimeError('no such thing\nand more')

    monkeypatch.setattr(exporting.Network, 'compute', compute)
    with pytest.raises(
        UserError, match='cannot trace TLAlignClassifier on images of 16x20 px: no such thing$'
    ):
        export(CONFIG, 'tiny.pt2', '--shape', '16', '20')


def test_a_folder_that_cannot_be_made_is_told_first(export, monkeypatch):
    monkeypatch.setattr(export_model, 'get_model', None)
    with pytest.raises(UserError, match="folder 'tiny.py' cannot be "):
        export(CONFIG, 'tiny.py/a.pt2', '--shape', '16', '16')


def test_a_folder_is_no_file(export, tmp_path, monkeypatch):
    (tmp_path / 'a.pt2').mkdir()
    monkeypatch.setattr(export_model, 'get_model', None)
    with pytest.raises(UserError, match="'a.pt2' is a folder; name a file w"):
        export(CONFIG, 'a.pt2', '--shape', '16', '16')


@pytest.mark.parametrize('shape, patches', [((2, 2), '1x1'), ((4, 16), '1x4'), ((5, 8), None)])
def test_a_single_row_of_patches_is_not_for_onnx(shape, patches):
    network = exporting.Network(mmtlalign.get_model(Config.fromstring(CONFIG, '.py')), False)
    if not patches:
        return exporting.check_patches(network, *shape)
    with pytest.raises(
        UserError,
        match=f'--shape .* is {patches} patches of 4'
        ' px, .* give sides of 8 px or more, or write a .pt2',
    ):
        exporting.check_patches(network, *shape)


def test_a_part_of_configs_is_named(monkeypatch):
    part = ROOT / 'configs/classification/_base_/default_runtime.py'
    monkeypatch.setattr('sys.argv', ['export_model.py', str(part), '--out', 'a.pt2', '--dynamic'])
    with pytest.raises(UserError, match=f"config '{part}' has no model"):
        export_model.main()


def test_no_word_of_operators_that_are_not_needed(tmp_path):
    script = (
        "import runpy, sys\nsys.modules['mmcv.ops.multi_scale_deform_attn'] = "
        f"None\nsys.argv.append('--help')\nrunpy.run_path('{ROOT}/tools/export_model.py', "
        "run_name='__main__')"
    )
    process = run([sys.executable, '-c', script], tmp_path)
    assert (process.returncode, process.stderr) == (0, '')


def test_missing_packages(export, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match='pip install -r requirements/export'):
        export(CONFIG, 'tiny.onnx', '--dynamic')


@pytest.mark.parametrize(
    'arguments, complaint',
    [
        (['--out', 'a.trt', '--dynamic'], 'must end in .onnx or .pt2'),
        (['--out', 'a.pt2'], 'one of the arguments --shape --dynamic'),
        (['--out', 'a.pt2', '--dynamic', '--batch', '2'], '--batch goes with'),
        (['--out', 'a.pt2', '--shape', '0', '8'], 'must be positive'),
    ],
)
def test_arguments(monkeypatch, capsys, arguments, complaint):
    monkeypatch.setattr('sys.argv', ['export_model.py', 'tiny.py', *arguments])
    with pytest.raises(SystemExit):
        export_model.main()
    assert complaint in capsys.readouterr().err
