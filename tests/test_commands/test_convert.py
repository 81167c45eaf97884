"""What the converter's options do, and what it refuses."""

from functools import partial

import cv2
import numpy as np
import pytest
import timm
import torch
from mmpretrain.models import SwinTransformer, SwinTransformerV2, VisionTransformer
from timm.models.deit import VisionTransformerDistilled
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.swin_transformer_v2 import SwinTransformerV2 as TimmSwinV2

from mmtlalign.checkpoint.conversion import recognise
from mmtlalign.errors import UserError
from tests.test_models.test_backbones.lvvit_reference import build_state

SWIN = dict(
    img_size=32,
    patch_size=2,
    embed_dim=8,
    depths=(1, 2, 1),
    num_heads=(1, 2, 4),
    window_size=4,
    num_classes=3,
)
VIT = dict(img_size=16, patch_size=4, embed_dim=8, depth=3, num_heads=2, num_classes=3)
BEIT = dict(VIT, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.5, qkv_bias=True)
PYRAMID = dict(
    embed_dims=(8, 16, 16, 32),
    depths=(1, 2, 2, 1),
    num_heads=(1, 2, 2, 4),
    mlp_ratios=(2, 2, 2, 2),
    sr_ratios=(4, 2, 2, 1),
    num_classes=3,
)


def randomize(model):
    """Noise for weights, biases and tables."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def swin_state():
    return dict(randomize(timm.models.SwinTransformer(**SWIN)).state_dict())


def vit_state(cls=timm.models.VisionTransformer, **kwargs):
    return dict(randomize(cls(**VIT, **kwargs)).state_dict())


def lvvit_release():
    """A state in the layout that LV-ViTs are published in."""
    return build_state(240, 3, 8, num_patches=16, num_classes=5)


def without(state, key):
    del state[key]
    return state


def host_swin(cls=SwinTransformer, window_size=4, **kwargs):
    """mmpretrain's of the same architecture."""
    arch = dict(embed_dims=8, depths=[1, 2, 1], num_heads=[1, 2, 4])
    if cls is SwinTransformerV2:
        arch['extra_norm_every_n_blocks'], kwargs['pretrained_window_sizes'] = 0, [0, 0, 0]
    kwargs |= dict(img_size=32, patch_size=2, window_size=window_size, out_indices=(2,))
    host = cls(arch=arch, **kwargs)
    host.eval()  # which returns None in mmpretrain
    return host


def host_vit(cls=VisionTransformer, **kwargs):
    """mmpretrain's of the same architecture."""
    arch = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=32)
    host = cls(arch=arch, img_size=16, patch_size=4, **kwargs)
    host.eval()
    return host


def part(checkpoint, prefix):
    """Weights under a prefix, of a checkpoint in mmpretrain's layout."""
    return {
        key.removeprefix(prefix): value
        for key, value in checkpoint['state_dict'].items()
        if key.startswith(prefix)
    }


def same_tensors(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


@pytest.mark.parametrize('window_size', [6, 3])
def test_tables_are_resized_as_an_independent_interpolation_does(convert, window_size):
    first = convert(swin_state())
    resized = convert(first, '--window-size', window_size)
    key = 'backbone.stages.1.blocks.1.attn.w_msa.relative_position_bias_table'
    table = first['state_dict'][key].numpy().reshape(7, 7, 2)
    size = 2 * window_size - 1
    expected = cv2.resize(table, (size, size), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(resized['state_dict'][key], expected.reshape(-1, 2), atol=1e-5)
    # What is no table stays; the indices are those of the new window.
    host = host_swin(window_size=window_size)
    for key, value in first['state_dict'].items():
        own = resized['state_dict'][key]
        if key.endswith('relative_position_index'):
            assert torch.equal(own, host.get_buffer(key.removeprefix('backbone.'))), key
        elif not key.endswith('relative_position_bias_table'):
            assert torch.equal(own, value), key
    host.load_state_dict(part(resized, 'backbone.'), strict=True)


def test_without_distillation_a_deit_is_plain(convert, capsys):
    state = vit_state(VisionTransformerDistilled)
    converted = convert(state, '--drop-distillation')
    assert not any('dist' in key for key in converted['state_dict'])
    position = converted['state_dict']['backbone.pos_embed']
    assert torch.equal(position[:, 0], state['pos_embed'][:, 0])
    assert torch.equal(position[:, 1:], state['pos_embed'][:, 2:])
    assert 'they load strictly into VisionTransformer' in capsys.readouterr().out


ONE, NAN = torch.zeros(1), torch.full((32,), torch.nan)
DEIT, TINY_SWIN = {'blocks.0.norm1.weight': ONE}, {'layers.0.downsample.': ONE}


@pytest.mark.slow
@pytest.mark.parametrize(
    'content, arguments, complaint',
    [
        (
            dict(a=ONE),
            '',
            'is no LV-ViT, BEiT, DeiT or ViT, Swin v2, Swin, PVT v2, Twins in a layout that is '
            "known: its first key is 'a'",
        ),
        (TINY_SWIN, '--drop-distillation', '--drop-distillation is for DeiT or ViT, .* is a Swin'),
        (
            lambda: TimmSwinV2(**SWIN).state_dict(),
            '--window-size 8',
            "--window-size is for Swin, and '.*in.pth' is a Swin v2",
        ),
        (DEIT, '--to paper', '--to paper: a DeiT or ViT has the layouts mmpretrain, timm'),
        (lambda: vit_state(), '--drop-distillation', 'has no distillation token'),
        (
            lambda: swin_state() | {'layers.0.blocks.0.attn.more': ONE},
            '',
            r"does not fit mmpretrain's SwinTransformer: 1 keys unknown.*w_msa\.more",
        ),
        (lambda: swin_state() | {'norm.bias': NAN}, '', r'norm\.bias holds values that are not'),
        (lambda: vit_state() | {'blocks.0.attn.q_norm.': ONE}, '', r"0\.attn\.q_norm\.', which no"),
        (lambda: dict(vit_state(), pos_embed=torch.zeros(1, 15, 8)), '', '14 patches.*no square'),
        (
            lambda: vit_state(mlp_layer=timm.layers.SwiGLUPacked),
            '',
            'a ViT with gated feed-forward',
        ),
        (
            lambda: PyramidVisionTransformerV2(**PYRAMID, linear=True).state_dict(),
            '',
            'is a PVT v2 of linear attention',
        ),
        (lambda: without(lvvit_release(), 'patch_embed.conv1.weight'), '', 'which no model of th'),
        (lambda: lvvit_release() | dict(extra=ONE), '', "holds 'extra'"),
        (lambda: without(lvvit_release(), 'blocks.1.norm2.bias'), '', '1 keys missing'),
        (lambda: lvvit_release() | dict(pos_embed=torch.ones(1, 16, 240)), '', '15 patches, which'),
    ],
)
def test_mistakes_are_told_in_one_line(convert, tmp_path, content, arguments, complaint):
    if 'PVT' in complaint and 'LV-ViT' not in complaint:
        pytest.importorskip('mmdet.models.backbones', reason='mmdet is not installed')
    content = dict(content()) if callable(content) else content
    with pytest.raises(SystemExit, match=complaint) as error:
        convert(content, *arguments.split())
    assert '\n' not in error.value.code
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize(
    'out, complaint',
    [
        ('in.pth/out.pth', "folder '.*/in.pth' cannot be made .*; choose another with out"),
        ('.', 'is a folder; name a file'),
        ('in.pth', r"in\.pth' is the input, which would be lost"),
        ('link.pth', r"link\.pth' is the input, which would be lost"),
        ('out.safetensors', r'would be a \.pth file for all its name'),
    ],
)
def test_no_place_for_the_output(convert, tmp_path, out, complaint):
    (tmp_path / 'link.pth').symlink_to('in.pth')
    content = dict(a=torch.ones(1))  # no model: the place is looked at first
    with pytest.raises(SystemExit, match=complaint) as error:
        convert(content, out=out)
    assert '\n' not in error.value.code
    same_tensors(torch.load(tmp_path / 'in.pth'), content)
    assert {path.name for path in tmp_path.iterdir()} == {'in.pth', 'link.pth'}


def keys_of(name):
    """Those of a model of timm."""
    with torch.device('meta'):
        return list(timm.create_model(name, pretrained=False).state_dict())


@pytest.mark.parametrize(
    'keys, told',
    [
        (partial(keys_of, 'vit_small_patch14_reg4_dinov2'), 'a ViT with registers'),
        (partial(keys_of, 'resnet18'), 'a ResNet'),
        (partial(keys_of, 'vit_tiny_r_s16_p8_224'), 'a ViT on a ResNet'),
        (['rpn_head.rpn_conv.weight'], 'a detector or segmenter'),
        (['vit.embeddings.cls_token'], "a ViT in transformers' layout"),
        (['encoder.layers.encoder_layer_0.ln_1.weight'], "a ViT in torchvision's layout"),
        (['pos_embed1'], 'a PVT v1'),
        (['visual.conv1.weight'], 'a CLIP'),
    ],
)
def test_another_family_or_layout_is_named(keys, told):
    state = dict.fromkeys(keys() if callable(keys) else keys, ONE)
    with pytest.raises(UserError, match=f"'x.pth' is {told}; what is converted: LV-ViT, BEiT"):
        recognise(state, 'x.pth')
