"""``mmtlalign publish --format hf``: what timm makes of it, on random weights."""

import json
import shutil
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from PIL import Image

from mmtlalign.apis import get_model
from mmtlalign.commands import convert, publish
from mmtlalign.errors import UserError, one_line_errors

from ..tiny import CONFIG, ROOT
from .test_convert import randomize, same_tensors

TINY = Config.fromstring(CONFIG, '.py')
VIT, VIT_HEAD = TINY.model.backbone, TINY.model.head
LINEAR_HEAD = dict(type='LinearClsHead', num_classes=3, in_channels=16)
SWIN_ARCH = dict(embed_dims=8, depths=[2, 2], num_heads=[2, 4])
SWIN = dict(type='SwinTransformer', arch=SWIN_ARCH, img_size=16, patch_size=2, window_size=4)
SWIN_V2 = dict(SWIN, arch=dict(SWIN_ARCH, extra_norm_every_n_blocks=0), type='SwinTransformerV2')
POOLED = dict(neck=dict(type='GlobalAveragePooling'), head=LINEAR_HEAD)
MODELS = dict(
    vit=dict(backbone=VIT, head=VIT_HEAD),
    pooled=dict(backbone=dict(VIT, out_type='avg_featmap', final_norm=False), head=LINEAR_HEAD),
    deit=dict(
        backbone=dict(VIT, type='DistilledVisionTransformer'),
        head=dict(LINEAR_HEAD, type='DeiTClsHead'),
    ),
    deit3=dict(backbone=dict(VIT, type='DeiT3'), head=VIT_HEAD),
    swin=dict(backbone=dict(SWIN, out_indices=(1,)), **POOLED),
    swin_v2=dict(
        backbone=dict(SWIN_V2, out_indices=(1,), pretrained_window_sizes=[0, 0]), **POOLED
    ),
)
RESIZE = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=20, interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=16),
]
NORMALIZE = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], num_classes=3)


def make_config(name, to_rgb=True):
    return Config(
        dict(
            model=dict(type='ImageClassifier', **MODELS[name]),
            data_preprocessor=dict(NORMALIZE, type='ClsDataPreprocessor', to_rgb=to_rgb),
            train_dataloader=TINY.train_dataloader,
            test_dataloader=dict(dataset=dict(type='CustomDataset', pipeline=RESIZE)),
        )
    )


@pytest.fixture
def publish_hf(tmp_path):
    """Save random weights as training does, publish; the model and the folder."""

    def run(name, *options, to_rgb=True):
        cfg = make_config(name, to_rgb)
        model = randomize(get_model(cfg))
        meta = dict(cfg=cfg.pretty_text, seed=5, epoch=2, iter=8)
        meta['dataset_meta'] = dict(classes=['a', 'b', 'c'])
        file = tmp_path / 'photos_vit/epoch_2.pth'
        file.parent.mkdir(exist_ok=True)
        torch.save(dict(meta=meta, state_dict=model.state_dict()), file)
        with one_line_errors('publish'):
            publish.main([str(file), str(tmp_path / 'out'), '--format', 'hf', *options])
        return model, tmp_path / 'out/photos_vit'

    return run


@pytest.mark.slow
@pytest.mark.parametrize('name, to_rgb', [('vit', False), *((name, True) for name in MODELS)])
def test_timm_computes_the_same_from_the_same_photo(publish_hf, capsys, name, to_rgb):
    """From pixels on: channels and normalization are those of each side."""
    model, folder = publish_hf(name, to_rgb=to_rgb)
    assert 'pretrained=True) gives the same logits to' in capsys.readouterr().out
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)  # RGB
    read = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)  # as mmcv does
    theirs = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    data = timm.data.resolve_model_data_config(theirs)
    assert data['input_size'] == (3, 16, 16) and data['interpolation'] == 'bicubic'
    assert data['crop_pct'] == 16 / 20
    transform = timm.data.create_transform(**dict(data, crop_pct=1.0), is_training=False)
    with torch.no_grad():
        batch = model.data_preprocessor(dict(inputs=[read]), training=False)
        ours = model.head(model.extract_feat(batch['inputs']))
        found = theirs(transform(Image.fromarray(pixels))[None])
    assert ours.std() > 1e-3
    torch.testing.assert_close(found, ours, rtol=1e-5, atol=1e-5)
    assert theirs.pretrained_cfg['label_names'] == ['a', 'b', 'c']


def read_card(folder):
    return (folder / 'README.md').read_text()


def test_the_card_says_what_was_trained(publish_hf, tmp_path):
    (tmp_path / 'm.json').write_text('{"accuracy/top1": 51.234, "accuracy/top5": 90.0}')
    drawn = dict(metric='accuracy/top1', figure=51.234, interval=[49.0, 53.5], num_images=2000)
    (tmp_path / 'b.json').write_text(json.dumps(dict(drawn, draws=[1.0])))
    options = ['--metrics', str(tmp_path / 'm.json'), '--bootstrap', str(tmp_path / 'b.json')]
    _, folder = publish_hf('vit', *options, '--license', 'mit')
    card = read_card(folder)
    for line in (
        'license: mit',
        'A VisionTransformer for 16x16 px images',
        '`CustomDataset`, data_root `images`',
        '`python tools/train.py photos_vit.py`; but for any options',
        '2 epochs, 8 steps; seed 5',
        '| accuracy/top1 | 51.23 (95 % interval 49.00 to 53.50, bootstrap over 2000 test images) |',
        '| accuracy/top5 | 90.00 |',
        'one of its 3 classes',
        "timm.create_model('local-dir:photos_vit', pretrained=True)",
        '@inproceedings{xiao2023tlalign',
    ):
        assert line in card, line
    _, folder = publish_hf('vit')
    assert 'None were recorded' in read_card(folder)
    shutil.rmtree(folder)
    folder.touch()
    with pytest.raises(SystemExit, match='File exists.*; remove it, or write elsewhere'):
        publish_hf('vit')


@pytest.mark.parametrize('name, to_rgb', [('deit', True), ('swin', False)])
def test_the_other_way(publish_hf, tmp_path, name, to_rgb):
    model, folder = publish_hf(name, to_rgb=to_rgb)
    convert.main([f'hf:{folder}', str(tmp_path / 'back.pth')])
    back = torch.load(tmp_path / 'back.pth', weights_only=True)
    same_tensors(back['state_dict'], dict(model.state_dict()))  # head.fc: a linear head's
    assert back['meta']['dataset_meta'] == dict(classes=['a', 'b', 'c'])
    assert back['meta']['seed'] == 5


def test_a_folder_of_others(tmp_path, capsys):
    """Anything that timm wrote, without our record."""
    model = timm.create_model('vit_tiny_patch16_224', img_size=32, num_classes=2)
    timm.models.save_for_hf(model, tmp_path / 'theirs', safe_serialization=True)
    convert.main([f'hf:{tmp_path / "theirs"}', str(tmp_path / 'out.pth')])
    assert "layout of 'mmpretrain'" in capsys.readouterr().out
    with pytest.raises(UserError, match=r'has no config\.json.*hf download'):
        convert.main([f'hf:{tmp_path}', str(tmp_path / 'out.pth')])


def test_upload(publish_hf, monkeypatch, capsys):
    api = MagicMock()
    api.create_repo.return_value = 'https://hub/me/photos'
    monkeypatch.setattr('huggingface_hub.HfApi', lambda: api)
    monkeypatch.setattr('huggingface_hub.get_token', lambda: 'hf_x')
    _, folder = publish_hf('vit', '--upload', 'me/photos')
    api.create_repo.assert_called_once_with('me/photos', private=True, exist_ok=True)
    sent = api.upload_folder.call_args.kwargs
    assert (sent['repo_id'], sent['folder_path']) == ('me/photos', folder)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ['README.md', 'config.json', 'model.safetensors']
    assert "timm.create_model('hf-hub:me/photos', pretrained=True)" in read_card(folder)
    assert capsys.readouterr().out.endswith('https://hub/me/photos\n')


@pytest.mark.parametrize(
    'hide, options, told',
    [
        ('token', ['--upload', 'me/photos'], 'needs a token of huggingface.co'),
        ('huggingface_hub', ['--upload', 'me/photos'], 'needs huggingface_hub: pip install'),
        ('timm', [], r"needs timm: pip install 'mmtlalign\[timm\]'"),
        ('', ['--upload', 'a/b/c'], "--upload 'a/b/c' is no name of a repository"),
        ('', ['--bootstrap', 'absent.json'], 'absent.json'),
    ],
)
def test_what_is_missing_is_told_before_anything_is_read(
    publish_hf, monkeypatch, tmp_path, hide, options, told
):
    monkeypatch.setattr('huggingface_hub.get_token', lambda: None)
    if hide not in ('', 'token'):
        monkeypatch.setitem(sys.modules, hide, None)
    with pytest.raises(SystemExit, match=told) as error:
        publish_hf('vit', *options)
    assert '\n' not in error.value.code
    assert not (tmp_path / 'out/photos_vit').exists()


@pytest.mark.parametrize(
    'model, told',
    [
        (
            dict(backbone=VIT, head=dict(VIT_HEAD, hidden_dim=8)),
            "'head.layers.pre_logits.*which no model of this family",
        ),
        (
            dict(backbone=dict(VIT, layer_cfgs=dict(act_cfg=dict(type='ReLU'))), head=VIT_HEAD),
            'gives other logits with these weights',
        ),
        (
            dict(backbone=dict(VIT, type='BEiTViT'), head=LINEAR_HEAD),
            'a BEiT cannot be published for timm',
        ),
    ],
    ids=['hidden layer', 'ReLU', 'BEiT'],
)
def test_what_timm_does_not_compute_is_refused(publish_hf, monkeypatch, tmp_path, model, told):
    monkeypatch.setitem(MODELS, 'other', model)
    with pytest.raises(SystemExit, match=told):
        publish_hf('other')
    assert not (tmp_path / 'out/photos_vit').exists()


def test_a_file_of_the_zoo(tmp_path, capsys):
    """What was published for OpenMMLab is enough: its record has the config."""
    (file,) = (ROOT / 'zoo').glob('tlalign_deit-digits_1xb32_digits_*.safetensors')
    publish.main([str(file), str(tmp_path), '--format', 'hf'])
    assert 'gives the same logits to' in capsys.readouterr().out
    card = read_card(tmp_path / 'tlalign_deit-digits_1xb32_digits')
    assert '`mmtlalign.Digits`, split `train`' in card
    assert '| accuracy/top1 | 99.17 |' in card and 'one of its 10 classes' in card
