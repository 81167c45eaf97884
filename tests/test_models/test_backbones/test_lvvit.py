"""LV-ViT: its published sizes, and labels that follow its tokens."""

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from mmtlalign.models import LVViT, TokenLabelHead
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_labels_follow, assert_same

ARCH = dict(toys.VIT, stem_channels=8, skip_lam=2.0)


@pytest.mark.parametrize(
    'arch, img_size, count, skip_lam, width',
    [
        ('tiny', 224, 8_534_720, 1, 60),
        ('s', 224, 26_151_824, 2, 64),
        ('m', 224, 55_830_544, 2, 64),
        ('large', 448, 150_473_552, 3, 64),
    ],
)
def test_published_settings(arch, img_size, count, skip_lam, width):
    with torch.device('meta'):
        backbone = LVViT(arch, img_size, drop_path_rate=0.3)
        head = TokenLabelHead(1000, backbone.embed_dims)
    assert sum(p.numel() for part in (backbone, head) for p in part.parameters()) == count
    for i, layer in enumerate(backbone.layers):
        rate = 0.3 * i / (len(backbone.layers) - 1)
        for drop in (layer.attn.out_drop, layer.ffn.dropout_layer):
            assert drop.skip_lam == skip_lam
            assert type(drop.drop_prob) is float
            assert drop.drop_prob == pytest.approx(rate)
        assert layer.attn.qkv.bias is None
        assert layer.attn.head_dims == width
        assert layer.ln1.eps == layer.ln2.eps == backbone.ln1.eps == 1e-5
        assert layer.ffn.feedforward_channels == 3 * backbone.embed_dims


def test_branches_are_divided_after_random_depth():
    drop = toys.lvvit(drop_path_rate=0.5).layers[-1].attn.out_drop
    drop.train()
    out = drop(torch.ones(400, 2, 3))
    # kept samples are scaled by 1 / (1 - .5), and then halved
    assert sorted(out.unique().tolist()) == [0, 1]
    assert out.mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(drop.eval()(torch.ones(1)), torch.tensor([0.5]))


# the last one is padded to whole patches
@pytest.mark.parametrize('size', [(16, 24), (12, 20), (18, 15)])
def test_any_size_of_image(size):
    backbone = toys.lvvit(out_type='featmap')
    (out,) = backbone(toys.images(size=size))
    assert out.shape[2:] == tuple(-(-side // 4) for side in size)
    assert LVViT(ARCH, img_size=size, patch_size=4).patch_resolution == out.shape[2:]


def test_starts_as_published():
    backbone = LVViT(ARCH | dict(embed_dims=96), 16, 4)
    backbone.init_weights()
    state = backbone.state_dict()
    linear = [key for key in state if key.startswith('layers') and key.endswith('.weight')]
    for key in (*(key for key in linear if 'ln' not in key), 'pos_embed'):
        assert state[key].std().item() == pytest.approx(0.02, rel=0.05), key
    assert state['cls_token'].std().item() == pytest.approx(0.02, rel=0.3)
    assert not state['layers.0.ffn.layers.0.0.bias'].any()


def test_a_named_checkpoint_is_not_drawn_over(tmp_path):
    path, weights = str(tmp_path / 'lvvit.pth'), toys.lvvit().state_dict()
    torch.save({f'backbone.{k}': v for k, v in weights.items()}, path)
    named = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    backbone = LVViT(ARCH, 16, 4, init_cfg=named)
    backbone.init_weights()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_frozen_stages_include_the_stem_and_do_not_drift():
    """Neither by batch norm in the stem nor by drop path."""
    backbone = toys.lvvit(frozen_stages=1, drop_path_rate=0.5)
    frozen = {name.split('.')[0] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {'cls_token', 'pos_embed', 'patch_embed', 'layers'}
    assert not backbone.layers[0].ln1.weight.requires_grad
    assert backbone.layers[1].ln1.weight.requires_grad
    backbone, images = toys.lvvit(frozen_stages=3, drop_path_rate=0.5), toys.images(4)
    expected = backbone.eval()(images)[0]
    assert backbone.train() is backbone and backbone.training
    for _ in range(3):
        assert torch.equal(backbone(images)[0], expected)
    assert toys.lvvit().train().patch_embed.stem[1].training


def test_bad_settings():
    with pytest.raises(ValueError, match='patch_size=5 must be even'):
        toys.lvvit(patch_size=5)
    with pytest.raises(ValueError, match='skip_lam=0.0 must be positive'):
        toys.lvvit(arch={**ARCH, 'skip_lam': 0.0})


# TL-Align on LV-ViT: skip_lam scales features, and no share.


@pytest.mark.parametrize(
    'skip_lam, out_type', [(1.0, 'raw'), (2.0, 'featmap'), (30.0, 'cls_token')]
)
def test_labels_follow(skip_lam, out_type):
    backbone = toys.lvvit(arch={**ARCH, 'skip_lam': skip_lam}, out_type=out_type)
    assert_labels_follow(backbone, toys.images(), toys.shares())


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_heads_of_60_channels_in_half_precision(dtype):
    """Shares as in float32; features as without a trace."""
    backbone = LVViT(LVViT.arch_zoo['tiny'] | dict(num_layers=6), 32, 4)
    backbone.init_weights()
    backbone.eval()
    inputs, token_share = toys.images(size=32), toys.shares(grid=8)
    trace = LabelTrace(backbone)
    with trace(token_share):
        backbone(inputs)
    expected = trace.output_share
    with torch.autocast('cpu', dtype=dtype), torch.no_grad():
        stock = backbone(inputs)
        with trace(token_share):
            traced = backbone(inputs)
    assert_same(trace.output_share, expected, atol=5e-3)
    assert_same(traced[0].float(), stock[0].float(), atol=2e-2)
