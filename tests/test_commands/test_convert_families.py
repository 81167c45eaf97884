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
    SwinTransformer,
    SwinTransformerV2,
)
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.swin_transformer_v2 import SwinTransformerV2 as TimmSwinV2
from timm.models.twins import Twins
from torch import nn

from mmtlalign.checkpoint import load_strictly
from mmtlalign.models import LVViT, TokenLabelHead
from tests.test_models.test_backbones.lvvit_reference import both_scores, predict

from .test_convert import (
    BEIT,
    PYRAMID,
    SWIN,
    VIT,
    host_swin,
    host_vit,
    lvvit_release,
    part,
    randomize,
    same_tensors,
)


def check(convert, source, content, host, features=None, back=None, side=16):
    """Convert, compare features (the last map's by default) with timm's, and go back."""
    converted = convert(content)
    host.eval()  # which returns None in mmpretrain
    may_lack = [key for key in host.state_dict() if re.search('index|coords|attn_mask', key)]
    found = host.load_state_dict(part(converted, 'backbone.'), strict=False)
    assert set(found.missing_keys) <= set(may_lack) and not found.unexpected_keys
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        ours, theirs = host(images)[-1], (features or last_map)(source, images)
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


# which a release holds beside them
BUFFERS = [
    'layers.0.blocks.0.attn.relative_position_index',
    'layers.0.blocks.0.attn.relative_coords_table',
    'layers.1.blocks.1.attn_mask',
]


def as_paper(state):
    """timm's keys of a Swin as the papers' releases have them."""
    return {
        re.sub(
            r'^layers\.(\d+)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', key
        ).replace('head.fc.', 'head.'): value
        for key, value in state.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['timm', 'paper'])
@pytest.mark.parametrize(
    'cls, host_cls',
    [(timm.models.SwinTransformer, SwinTransformer), (TimmSwinV2, SwinTransformerV2)],
)
def test_swin(convert, capsys, layout, cls, host_cls):
    source = randomize(cls(**SWIN))
    state = content = dict(source.state_dict())
    if layout == 'paper':
        plain = {key: value for key, value in as_paper(state).items() if 'coords' not in key}
        buffers = [key for key in BUFFERS if ('coords' in key) == (cls is TimmSwinV2)]
        content = dict(model=plain | {key: torch.zeros(4, 16, 16) for key in buffers})
        if cls is not TimmSwinV2:  # timm reads the release too, so it vouches for the names
            read = timm.models.swin_transformer.checkpoint_filter_fn(content, source)
            same_tensors(read, state)
        same_tensors(convert(convert(content), '--to', 'paper')['model'], plain)
        assert "in the layout of 'paper'; converted back" in capsys.readouterr().out
    converted = check(convert, source, content, host_swin(host_cls), side=32)
    count = len(converted['state_dict'])
    said = f"out.pth: {count} tensors in the layout of 'mmpretrain'; they load strictly into Swin"
    assert said in capsys.readouterr().out


def headless(state):
    return {key: value for key, value in state.items() if 'head' not in key}


def of_mae(state):
    """What only its pretraining uses beside it."""
    more = dict(mask_token=torch.zeros(1, 1, 4), decoder_pos_embed=torch.zeros(1, 17, 4))
    more['decoder_blocks.0.attn.qkv.weight'] = torch.zeros(12, 4)
    return dict(model=headless(state) | more)


def of_dino(state):
    """The teacher's backbone, as training saves it, with its projection."""
    teacher = {f'backbone.{key}': value for key, value in headless(state).items()}
    teacher['head.mlp.0.weight'] = teacher['head.last_layer.weight_v'] = torch.zeros(2, 2)
    return dict(teacher=teacher, student=dict(), epoch=3)


def of_deit_iii(state):
    return {re.sub(r'ls(\d)\.gamma', r'gamma_\1', key): state[key] for key in state}


POOLED = dict(qkv_bias=False, global_pool='avg', fc_norm=True)
SCALED, NO_POSITION = dict(init_values=1.0), dict(init_values=1.0, no_embed_class=True)
HOST_POOLED = dict(qkv_bias=False, out_type='avg_featmap', final_norm=False)
HOST_SCALED = dict(layer_scale_init_value=1.0)


@pytest.mark.parametrize(
    'release, kwargs, host_kwargs',
    [
        (lambda state: dict(model=state), {}, {}),
        (lambda state: dict(model=state), POOLED, HOST_POOLED),
        (of_mae, {}, {}),
        (of_dino, {}, {}),
        (lambda state: dict(state, mask_token=torch.zeros(1, 8)), SCALED, HOST_SCALED),
        (dict, NO_POSITION, HOST_SCALED),
        (of_deit_iii, NO_POSITION, HOST_SCALED),
    ],
    ids=['DeiT', 'mean, without bias', 'MAE', 'DINO', 'DINOv2', 'DeiT III of timm', 'DeiT III'],
)
def test_plain_vits(convert, capsys, release, kwargs, host_kwargs):
    source = randomize(timm.models.VisionTransformer(**VIT, **kwargs))
    state = dict(source.state_dict())
    back = headless(state) if release in (of_mae, of_dino) else state
    features = pre_logits if kwargs is POOLED else class_token
    converted = check(convert, source, release(state), host_vit(**host_kwargs), features, back)
    left_out = 'pretraining uses them: 3 tensors (first: mask_token)'
    assert (left_out in capsys.readouterr().out) == (release is of_mae)
    # no position of the class token is a position of zeros
    position = converted['state_dict']['backbone.pos_embed'][:, 0]
    assert bool(position.any()) == (kwargs is not NO_POSITION)


def test_a_distilled_deit(convert):
    """What timm computes of it, both ways, is compared where models are published."""
    state = dict(randomize(VisionTransformerDistilled(**VIT)).state_dict())
    converted = convert(state)
    host_vit(DistilledVisionTransformer).load_state_dict(part(converted, 'backbone.'), strict=True)
    assert 'head.layers.head_dist.weight' in converted['state_dict']
    same_tensors(convert(converted, '--to', 'timm'), state)


def test_deit_iii_of_mmpretrain(convert):
    """Its layers normalize twice by the first norm; what is written does."""
    host = host_vit(DeiT3)
    randomize(host)
    written = convert({f'backbone.{key}': value for key, value in host.state_dict().items()})
    plain = host_vit(layer_scale_init_value=1.0)
    plain.load_state_dict(part(written, 'backbone.'), strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), host(images), rtol=1e-4, atol=1e-4)


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
    source = randomize(Beit(**{**BEIT, **kwargs}))
    content = dict(source.state_dict(), mask_token=torch.zeros(1, 1, 8))
    content['lm_head.bias'] = torch.zeros(3)
    for i in range(3):  # the release keeps what the constructor computes
        content[f'blocks.{i}.attn.relative_position_index'] = torch.zeros(17, 17)
    host = host_vit(BEiTViT, **{'out_type': 'cls_token', **host_kwargs})
    check(convert, source, dict(module=content), host, pre_logits)


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['timm', 'paper'])
def test_pvt_v2(convert, layout):
    backbones = pytest.importorskip('mmdet.models.backbones', reason='mmdet is not installed')
    source = randomize(PyramidVisionTransformerV2(**PYRAMID))
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
    check(convert, source, state, host, side=64)


def name_as_pvt(key):
    """timm's key of a PVT v2 in the release, whose stages begin at one."""
    key = re.sub(r'^patch_embed\.', 'patch_embed1.', key)
    for old, new in (('downsample', 'patch_embed'), ('blocks', 'block'), ('norm', 'norm')):
        key = re.sub(rf'^stages\.(\d)\.{old}\.', lambda m: f'{new}{int(m[1]) + 1}.', key)
    return key.replace('.dwconv.', '.dwconv.dwconv.')


@pytest.mark.slow
@pytest.mark.parametrize('windows', [None, (4, 4, 2, 2)], ids=['PCPVT', 'SVT'])
def test_twins(convert, windows):
    source = randomize(Twins(img_size=64, wss=windows, **PYRAMID))
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
    check(convert, source, dict(source.state_dict()), host, side=64)


@pytest.mark.filterwarnings('ignore')
def test_lvvit(convert, capsys):
    """Against the published layout's own arithmetic."""
    release = lvvit_release()
    converted = convert(release)['state_dict']
    assert f'{len(release)} tensors' in capsys.readouterr().out
    arch = dict(embed_dims=240, num_layers=3, num_heads=4, feedforward_channels=720)
    backbone = LVViT(dict(arch, stem_channels=8, skip_lam=2.0), img_size=64, out_type='raw')
    head = TokenLabelHead(5, 240, loss=dict(type='mmpretrain.CrossEntropyLoss'))
    model = nn.ModuleDict(dict(backbone=backbone, head=head)).eval()
    load_strictly(model, converted, 'release.pth')
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        feats = backbone(images)
        found = head(feats)
        dense = head.aux_head(feats[0][:, 1:])
    score, token_scores = both_scores(release, images, 4, 2.0)
    torch.testing.assert_close(dense, token_scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, predict(release, images, 4, 2.0), rtol=1e-4, atol=1e-4)
    assert found.std() > 0.1 and (found - score).abs().max() > 0.1
    same_tensors(convert(converted, '--to', 'timm'), release)
    for key in ('aux_head.weight', 'aux_head.bias'):
        del release[key]
    assert 'head.aux_head.weight' not in convert(release)['state_dict']
