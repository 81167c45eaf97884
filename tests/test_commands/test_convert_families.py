"""Weights that people have compute the same features in the hosts' backbones.

timm's models are the reference. Of the papers' layouts only the names are
tested: the official code is not run, its documented keys are written here.
"""

import re

import pytest
import timm
import torch
from mmpretrain.models import PCPVT, SVT, BEiTViT, DeiT3, SwinTransformerV2
from timm.models.beit import Beit
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.swin_transformer_v2 import SwinTransformerV2 as TimmSwinV2
from timm.models.twins import Twins
from torch import nn

from mmtlalign.checkpoint.conversion import recognise
from mmtlalign.commands.convert import main
from mmtlalign.errors import UserError, one_line_errors

from .test_convert import SWIN, VIT, host_vit, part, randomize, same_tensors

BEIT = dict(VIT, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.5)
PYRAMID = dict(
    embed_dims=(8, 16, 16, 32),
    depths=(1, 2, 2, 1),
    num_heads=(1, 2, 2, 4),
    mlp_ratios=(2, 2, 2, 2),
    sr_ratios=(4, 2, 2, 1),
    num_classes=3,
)


@pytest.fixture
def run(tmp_path):
    """Save, convert in this process, load what was written."""

    def run(content, *arguments):
        source, out = tmp_path / 'in.pth', tmp_path / 'out.pth'
        torch.save(content, source)
        with one_line_errors('convert'):
            main([str(source), str(out), *map(str, arguments)])
        return torch.load(out)

    return run


def check(run, source, content, host, features, back=None):
    """Convert, compare features with timm's, and go back."""
    converted = run(content)
    host.eval()  # which returns None in mmpretrain
    may_lack = [key for key in host.state_dict() if re.search('index|coords|attn_mask', key)]
    found = host.load_state_dict(part(converted, 'backbone.'), strict=False)
    assert set(found.missing_keys) <= set(may_lack) and not found.unexpected_keys
    size = source.default_size
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        ours, theirs = host(images), features(source, images)
    assert theirs.std() > 0.1  # features that tell one image from another
    torch.testing.assert_close(ours[-1], theirs, rtol=1e-4, atol=1e-4)
    same_tensors(run(converted, '--to', 'timm'), back or dict(source.state_dict()))
    return converted


def sized(model, size):
    model.default_size = size
    return randomize(model)


def class_token(model, images):
    return model.forward_features(images)[:, 0]


def last_map(model, images):
    """(B, C, H, W) of (B, H, W, C) or (B, H W, C) or itself."""
    found = model.forward_features(images)
    if found.ndim == 3:
        side = round(found.shape[1] ** 0.5)
        found = found.unflatten(1, (side, side))
    return found.permute(0, 3, 1, 2) if found.shape[-1] in (32, 64) else found


def make_vit(**kwargs):
    return sized(timm.models.VisionTransformer(**VIT, **kwargs), 16)


def test_mae(run, capsys):
    """What only its pretraining uses is left out, and told."""
    source = make_vit()
    state = {key: value for key, value in source.state_dict().items() if 'head' not in key}
    more = dict(mask_token=torch.zeros(1, 1, 4), decoder_pos_embed=torch.zeros(1, 17, 4))
    more['decoder_blocks.0.attn.qkv.weight'] = torch.zeros(12, 4)
    check(run, source, dict(model={**state, **more}), host_vit(), class_token, back=state)
    assert 'pretraining uses them: 3 tensors (first: mask_token)' in capsys.readouterr().out


def test_dino_of_a_training(run):
    """The teacher's backbone, without its projection."""
    source = make_vit()
    state = {key: value for key, value in source.state_dict().items() if 'head' not in key}
    teacher = {f'backbone.{key}': value for key, value in state.items()}
    teacher['head.mlp.0.weight'] = teacher['head.last_layer.weight_v'] = torch.zeros(2, 2)
    content = dict(teacher=teacher, student=dict(), epoch=3)
    check(run, source, content, host_vit(), class_token, back=state)


def test_dino_v2(run):
    """Layer scale; the release has a mask token and timm's keys."""
    source = make_vit(init_values=1.0)
    state = dict(source.state_dict())
    content = {**state, 'mask_token': torch.zeros(1, 8)}
    check(run, source, content, host_vit(layer_scale_init_value=1.0), class_token)


@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_deit_iii(run, layout):
    """Its class token has no position, which is a position of zeros."""
    source = make_vit(init_values=1.0, no_embed_class=True)
    state = dict(source.state_dict())
    if layout == 'paper':
        state = {re.sub(r'ls(\d)\.gamma', r'gamma_\1', key): state[key] for key in state}
    host = host_vit(layer_scale_init_value=1.0)
    converted = check(run, source, state, host, class_token)
    assert not converted['state_dict']['backbone.pos_embed'][:, 0].any()


def test_deit_iii_of_mmpretrain(run):
    """Its layers normalize twice by the first norm; what is written does."""
    host = DeiT3(
        arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=4,
    )
    host.eval()
    randomize(host)
    written = run({f'backbone.{key}': value for key, value in host.state_dict().items()})
    plain = host_vit(layer_scale_init_value=1.0)
    plain.load_state_dict(part(written, 'backbone.'), strict=True)
    source = timm.models.VisionTransformer(
        **dict(VIT, num_classes=0), init_values=1.0, no_embed_class=True
    ).eval()
    source.load_state_dict(run(written, '--to', 'timm'), strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        (expected,) = host(images)
        torch.testing.assert_close(plain(images)[0], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(class_token(source, images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'kwargs, host_kwargs',
    [
        (dict(global_pool='avg'), dict(final_norm=False)),
        (
            dict(global_pool='token', use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
            dict(final_norm=True, use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        ),
    ],
    ids=['fine-tuned', 'pretrained'],
)
def test_beit(run, kwargs, host_kwargs):
    source = sized(Beit(**{**BEIT, 'qkv_bias': True, **kwargs}), 16)
    token = kwargs['global_pool'] == 'token'
    host = BEiTViT(
        arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=4,
        out_type='cls_token' if token else 'avg_featmap',
        **host_kwargs,
    )

    def features(model, images):
        return model.forward_head(model.forward_features(images), pre_logits=True)

    state = dict(source.state_dict())
    content = {**state, 'mask_token': torch.zeros(1, 1, 8), 'lm_head.bias': torch.zeros(3)}
    for i in range(3):  # the release keeps what the constructor computes
        content[f'blocks.{i}.attn.relative_position_index'] = torch.zeros(17, 17)
    check(run, source, dict(module=content), host, features)


@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_swin_v2(run, layout):
    source = sized(TimmSwinV2(**SWIN), 32)
    state = dict(source.state_dict())
    if layout == 'paper':
        state = {
            re.sub(r'^layers\.(\d+)\.down', lambda m: f'layers.{int(m[1]) - 1}.down', key).replace(
                'head.fc.', 'head.'
            ): value
            for key, value in state.items()
        }
        state['layers.0.blocks.0.attn.relative_coords_table'] = torch.zeros(1, 7, 7, 2)
        same_tensors(
            run(run(state), '--to', 'paper')['model'],
            {key: value for key, value in state.items() if 'coords' not in key},
        )
    host = SwinTransformerV2(
        arch=dict(embed_dims=8, depths=[1, 2, 1], num_heads=[1, 2, 4], extra_norm_every_n_blocks=0),
        img_size=32,
        patch_size=2,
        window_size=4,
        out_indices=(2,),
        pretrained_window_sizes=[0, 0, 0],
    )
    check(run, source, state, host, last_map)


@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_pvt_v2(run, layout):
    backbones = pytest.importorskip('mmdet.models.backbones', reason='mmdet is not installed')
    source = sized(PyramidVisionTransformerV2(**PYRAMID), 64)
    state = dict(source.state_dict())
    if layout == 'paper':
        state = {name_as_pvt(key): value for key, value in state.items()}
        same_tensors(run(run(state), '--to', 'paper')['model'], state)
    host = backbones.PyramidVisionTransformerV2(
        embed_dims=8,
        num_heads=[1, 2, 2, 4],
        num_layers=[1, 2, 2, 1],
        mlp_ratios=[2, 2, 2, 2],
        sr_ratios=[4, 2, 2, 1],
    )
    check(run, source, state, host, last_map)


def name_as_pvt(key):
    """timm's key of a PVT v2 in the release, whose stages begin at one."""
    key = re.sub(r'^patch_embed\.', 'patch_embed1.', key)
    for old, new in (('downsample', 'patch_embed'), ('blocks', 'block'), ('norm', 'norm')):
        key = re.sub(rf'^stages\.(\d)\.{old}\.', lambda m: f'{new}{int(m[1]) + 1}.', key)
    return key.replace('.dwconv.', '.dwconv.dwconv.')


@pytest.mark.parametrize('windows', [None, (4, 4, 2, 2)], ids=['PCPVT', 'SVT'])
def test_twins(run, windows):
    source = sized(Twins(img_size=64, wss=windows, **PYRAMID), 64)
    arch = {key: list(value) for key, value in PYRAMID.items() if key != 'num_classes'}
    arch |= dict(patch_sizes=[4, 2, 2, 2], strides=[4, 2, 2, 2])
    if windows:
        arch['window_sizes'] = list(windows)
    host = (SVT if windows else PCPVT)(
        arch=arch, qkv_bias=True, norm_after_stage=[False, False, False, True]
    )
    for module in host.modules():  # mmpretrain's norms have the default of torch
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    check(run, source, dict(source.state_dict()), host, last_map)


@pytest.mark.parametrize(
    'name, told',
    [
        ('vit_small_patch14_reg4_dinov2', 'a ViT with registers'),
        ('eva02_base_patch14_224', 'an EVA-02'),
        ('cait_xxs24_224', 'a CaiT'),
        ('xcit_nano_12_p16_224', 'an XCiT'),
        ('davit_tiny', 'a DaViT'),
        ('convnext_atto', 'a ConvNeXt'),
        ('resnet18', 'a ResNet'),
        ('mixer_s32_224', 'an MLP-Mixer'),
        ('vit_tiny_r_s16_p8_224', 'a ViT on a ResNet'),
    ],
)
def test_another_family_is_named(name, told):
    with torch.device('meta'):
        keys = timm.create_model(name, pretrained=False).state_dict()
    state = {key: torch.zeros(value.shape[:1]) for key, value in keys.items()}
    with pytest.raises(UserError, match=f"'x.pth' is {told}.*what is converted: LV-ViT, BEiT"):
        recognise(state, 'x.pth')


@pytest.mark.parametrize(
    'key, told',
    [
        ('rpn_head.rpn_conv.weight', 'a detector or segmenter'),
        ('vit.embeddings.cls_token', "a ViT in transformers' layout"),
        ('encoder.layers.encoder_layer_0.ln_1.weight', "a ViT in torchvision's layout"),
        ('pos_embed1', 'a PVT v1'),
        ('visual.conv1.weight', 'a CLIP'),
    ],
)
def test_another_layout_is_named(key, told):
    with pytest.raises(UserError, match=f"'x.pth' is {told}"):
        recognise({key: torch.zeros(1)}, 'x.pth')


def test_gated_feed_forward_layers_are_refused(run):
    source = make_vit(mlp_layer=timm.layers.SwiGLUPacked)
    with pytest.raises(SystemExit, match='is a ViT with gated feed-forward layers'):
        run(dict(source.state_dict()))


def test_linear_attention_is_refused(run):
    pytest.importorskip('mmdet.models.backbones', reason='mmdet is not installed')
    source = PyramidVisionTransformerV2(**PYRAMID, linear=True)
    with pytest.raises(SystemExit, match='is a PVT v2 of linear attention'):
        run(dict(source.state_dict()))


def test_the_option_of_another_family(run):
    with pytest.raises(SystemExit, match="--window-size is for Swin, and '.*' is a Swin v2"):
        run(dict(TimmSwinV2(**SWIN).state_dict()), '--window-size', 8)
    with pytest.raises(SystemExit, match="--drop-distillation is for DeiT.*' is a BEiT"):
        run(dict(Beit(**BEIT, qkv_bias=True).state_dict()), '--drop-distillation')
