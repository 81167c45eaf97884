"""Weights that people have compute the same features in the hosts' backbones,
and go back to where they came from.

timm's models are the reference. Of the papers' layouts only the names are
tested: the official code is not run, its documented keys are written here.
"""

import re

import pytest
import timm
import torch
from mmpretrain.models import (
    PCPVT,
    SVT,
    BEiTViT,
    DeiT3,
    DistilledVisionTransformer,
    SwinTransformerV2,
)
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.swin_transformer_v2 import SwinTransformerV2 as TimmSwinV2
from timm.models.twins import Twins
from torch import nn

from .test_convert import (
    BEIT,
    PYRAMID,
    SWIN,
    VIT,
    host_swin,
    host_vit,
    part,
    randomize,
    same_tensors,
)


def check(convert, source, content, host, features, back=None):
    """Convert, compare features with timm's, and go back."""
    converted = convert(content)
    host.eval()  # which returns None in mmpretrain
    may_lack = [key for key in host.state_dict() if re.search('index|coords|attn_mask', key)]
    found = host.load_state_dict(part(converted, 'backbone.'), strict=False)
    assert set(found.missing_keys) <= set(may_lack) and not found.unexpected_keys
    images = torch.randn(2, 3, source.default_size, source.default_size)
    with torch.no_grad():
        ours, theirs = host(images)[-1], features(source, images)
        logits = source(images)
    assert theirs.std() > 0.1  # features that tell one image from another
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for name in ('head.fc.', 'head.layers.head.'):
        if head := part(converted, name):
            read = ours.mean((2, 3)) if ours.ndim == 4 else ours
            found = read @ head['weight'].T + head['bias']
            torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-3)
    same_tensors(convert(converted, '--to', 'timm'), back or dict(source.state_dict()))
    return converted


def sized(model, size):
    model.default_size = size
    return randomize(model)


def class_token(model, images):
    return model.forward_features(images)[:, 0]


def pre_logits(model, images):
    return model.forward_head(model.forward_features(images), pre_logits=True)


def last_map(model, images):
    """(B, C, H, W) of (B, H, W, C) or (B, H W, C) or itself."""
    found = model.forward_features(images)
    if found.ndim == 3:
        side = round(found.shape[1] ** 0.5)
        found = found.unflatten(1, (side, side))
    return found.permute(0, 3, 1, 2) if found.shape[-1] in (32, 64) else found


def make_vit(**kwargs):
    return sized(timm.models.VisionTransformer(**VIT, **kwargs), 16)


def swin_as_paper(state):
    """timm's keys as the papers' releases have them."""
    return {
        re.sub(
            r'^layers\.(\d+)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', key
        ).replace('head.fc.', 'head.'): value
        for key, value in state.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_swin(convert, capsys, layout):
    source = sized(timm.models.SwinTransformer(**SWIN), 32)
    state = content = dict(source.state_dict())
    if layout == 'paper':
        plain = content = swin_as_paper(state)
        for block in ('layers.0.blocks.0', 'layers.1.blocks.1'):  # with the release's buffers
            content = content | {
                f'{block}.attn.relative_position_index': torch.zeros(16, 16),
                f'{block}.attn_mask': torch.zeros(4, 16, 16),
            }
        content = dict(model=content)
        # timm reads the release too, so it vouches for the names
        read = timm.models.swin_transformer.checkpoint_filter_fn(content, source)
        same_tensors(read, state)
        same_tensors(convert(convert(content), '--to', 'paper')['model'], plain)
        assert "in the layout of 'paper'; converted back" in capsys.readouterr().out
    converted = check(convert, source, content, host_swin(), last_map)
    count = len(converted['state_dict'])
    said = f"out.pth: {count} tensors in the layout of 'mmpretrain'; they load strictly into Swin"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    'kwargs, host_kwargs, features',
    [
        ({}, {}, class_token),
        (
            dict(qkv_bias=False, global_pool='avg', fc_norm=True),
            dict(qkv_bias=False, out_type='avg_featmap', final_norm=False),
            pre_logits,
        ),
    ],
    ids=['class token', 'mean, without bias'],
)
def test_deit(convert, kwargs, host_kwargs, features):
    source = make_vit(**kwargs)
    check(convert, source, dict(model=source.state_dict()), host_vit(**host_kwargs), features)


def test_a_distilled_deit(convert):
    source = sized(VisionTransformerDistilled(**VIT), 16)
    converted = convert(dict(source.state_dict()))
    host = host_vit(DistilledVisionTransformer)
    host.load_state_dict(part(converted, 'backbone.'), strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        (tokens,) = host(images)
        features = source.forward_features(images)
    for i in range(2):
        torch.testing.assert_close(tokens[i], features[:, i], rtol=1e-4, atol=1e-4)
    assert 'head.layers.head_dist.weight' in converted['state_dict']
    same_tensors(convert(converted, '--to', 'timm'), dict(source.state_dict()))


def test_mae(convert, capsys):
    """What only its pretraining uses is left out, and told."""
    source = make_vit()
    state = {key: value for key, value in source.state_dict().items() if 'head' not in key}
    more = dict(mask_token=torch.zeros(1, 1, 4), decoder_pos_embed=torch.zeros(1, 17, 4))
    more['decoder_blocks.0.attn.qkv.weight'] = torch.zeros(12, 4)
    check(convert, source, dict(model={**state, **more}), host_vit(), class_token, back=state)
    assert 'pretraining uses them: 3 tensors (first: mask_token)' in capsys.readouterr().out


def test_dino_of_a_training(convert):
    """The teacher's backbone, without its projection."""
    source = make_vit()
    state = {key: value for key, value in source.state_dict().items() if 'head' not in key}
    teacher = {f'backbone.{key}': value for key, value in state.items()}
    teacher['head.mlp.0.weight'] = teacher['head.last_layer.weight_v'] = torch.zeros(2, 2)
    content = dict(teacher=teacher, student=dict(), epoch=3)
    check(convert, source, content, host_vit(), class_token, back=state)


def test_dino_v2(convert):
    """Layer scale; the release has a mask token and timm's keys."""
    source = make_vit(init_values=1.0)
    content = dict(source.state_dict(), mask_token=torch.zeros(1, 8))
    check(convert, source, content, host_vit(layer_scale_init_value=1.0), class_token)


@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_deit_iii(convert, layout):
    """Its class token has no position, which is a position of zeros."""
    source = make_vit(init_values=1.0, no_embed_class=True)
    state = dict(source.state_dict())
    if layout == 'paper':
        state = {re.sub(r'ls(\d)\.gamma', r'gamma_\1', key): state[key] for key in state}
    converted = check(convert, source, state, host_vit(layer_scale_init_value=1.0), class_token)
    assert not converted['state_dict']['backbone.pos_embed'][:, 0].any()


def test_deit_iii_of_mmpretrain(convert):
    """Its layers normalize twice by the first norm; what is written does."""
    host = host_vit(DeiT3)
    randomize(host)
    written = convert({f'backbone.{key}': value for key, value in host.state_dict().items()})
    plain = host_vit(layer_scale_init_value=1.0)
    plain.load_state_dict(part(written, 'backbone.'), strict=True)
    kwargs = dict(VIT, num_classes=0, init_values=1.0, no_embed_class=True)
    source = timm.models.VisionTransformer(**kwargs).eval()
    source.load_state_dict(convert(written, '--to', 'timm'), strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        (expected,) = host(images)
        torch.testing.assert_close(plain(images)[0], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(class_token(source, images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'kwargs, host_kwargs',
    [
        (dict(global_pool='avg'), dict(out_type='avg_featmap', final_norm=False)),
        (
            dict(global_pool='token', use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
            dict(final_norm=True, use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        ),
    ],
    ids=['fine-tuned', 'pretrained'],
)
def test_beit(convert, kwargs, host_kwargs):
    source = sized(Beit(**{**BEIT, **kwargs}), 16)
    content = dict(source.state_dict(), mask_token=torch.zeros(1, 1, 8))
    content['lm_head.bias'] = torch.zeros(3)
    for i in range(3):  # the release keeps what the constructor computes
        content[f'blocks.{i}.attn.relative_position_index'] = torch.zeros(17, 17)
    host = host_vit(BEiTViT, **{'out_type': 'cls_token', **host_kwargs})
    check(convert, source, dict(module=content), host, pre_logits)


@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_swin_v2(convert, layout):
    source = sized(TimmSwinV2(**SWIN), 32)
    state = dict(source.state_dict())
    if layout == 'paper':
        plain = swin_as_paper(state)
        buffer = {'layers.0.blocks.0.attn.relative_coords_table': torch.zeros(1, 7, 7, 2)}
        state = plain | buffer
        back = convert(convert(state), '--to', 'paper')['model']
        same_tensors(back, {key: value for key, value in plain.items() if 'coords' not in key})
    host = SwinTransformerV2(
        arch=dict(embed_dims=8, depths=[1, 2, 1], num_heads=[1, 2, 4], extra_norm_every_n_blocks=0),
        img_size=32,
        patch_size=2,
        window_size=4,
        out_indices=(2,),
        pretrained_window_sizes=[0, 0, 0],
    )
    check(convert, source, state, host, last_map)


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_pvt_v2(convert, layout):
    backbones = pytest.importorskip('mmdet.models.backbones', reason='mmdet is not installed')
    source = sized(PyramidVisionTransformerV2(**PYRAMID), 64)
    state = dict(source.state_dict())
    if layout == 'paper':
        state = {name_as_pvt(key): value for key, value in state.items()}
        same_tensors(convert(convert(state), '--to', 'paper')['model'], state)
    host = backbones.PyramidVisionTransformerV2(
        embed_dims=8,
        num_heads=[1, 2, 2, 4],
        num_layers=[1, 2, 2, 1],
        mlp_ratios=[2, 2, 2, 2],
        sr_ratios=[4, 2, 2, 1],
    )
    check(convert, source, state, host, last_map)


def name_as_pvt(key):
    """timm's key of a PVT v2 in the release, whose stages begin at one."""
    key = re.sub(r'^patch_embed\.', 'patch_embed1.', key)
    for old, new in (('downsample', 'patch_embed'), ('blocks', 'block'), ('norm', 'norm')):
        key = re.sub(rf'^stages\.(\d)\.{old}\.', lambda m: f'{new}{int(m[1]) + 1}.', key)
    return key.replace('.dwconv.', '.dwconv.dwconv.')


@pytest.mark.slow
@pytest.mark.parametrize('windows', [None, (4, 4, 2, 2)], ids=['PCPVT', 'SVT'])
def test_twins(convert, windows):
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
    check(convert, source, dict(source.state_dict()), host, last_map)
