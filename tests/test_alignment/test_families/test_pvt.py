"""Shares through PVT, PVTv2 and MiT, against a dense oracle."""

import pytest

from mmtlalign.alignment import LabelTrace
from tests.oracles.pvt import dense_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

from .refusals import assert_refuses_attention_dropout, assert_refuses_other_modules

HOSTS = dict(
    PyramidVisionTransformer='mmdet',
    PyramidVisionTransformerV2='mmdet',
    MixVisionTransformer='mmseg',
)
OWN = dict(
    PyramidVisionTransformer=dict(
        pretrain_img_size=24, patch_sizes=[4, 2], paddings=[0, 0], mlp_ratios=[2, 2]
    ),
    # the host fixes four patch sizes
    PyramidVisionTransformerV2=dict(
        num_stages=4,
        num_layers=[2, 1, 1, 1],
        num_heads=[1, 2, 2, 2],
        strides=[4, 2, 2, 2],
        sr_ratios=[2, 2, 1, 1],
        mlp_ratios=[2, 2, 2, 2],
    ),
    MixVisionTransformer=dict(patch_sizes=[7, 3], mlp_ratio=2),
)
TYPES = sorted(HOSTS)


def pvt(type, **cfg):
    """Two stages of two blocks."""
    backbones = pytest.importorskip(
        f'{HOSTS[type]}.models.backbones',
        reason=f'{type} needs {HOSTS[type]} with its operators',
        exc_type=ImportError,
    )
    cfg = (
        dict(
            embed_dims=16,
            num_stages=2,
            num_layers=[2, 2],
            num_heads=[1, 2],
            strides=[4, 2],
            sr_ratios=[2, 1],
            out_indices=(1,),
            drop_path_rate=0.0,
        )
        | OWN[type]
        | cfg
    )
    return toys.fill(getattr(backbones, type)(**cfg))


def follow(backbone, size):
    conv = backbone.layers[0][0].projection
    grid = tuple((side + 2 * conv.padding[0] - conv.kernel_size[0]) // 4 + 1 for side in size)
    assert_family(backbone, toys.images(size=size), toys.shares(grid=grid), dense_labels)


@pytest.mark.parametrize('type', TYPES)
@pytest.mark.parametrize(
    'size',
    [
        (32, 32),
        (28, 40),  # 7 x 10 tokens: the last row is left out of the keys
        (30, 47),  # not even whole patches
    ],
    ids=str,
)
def test_sizes(type, size):
    follow(pvt(type), size)


@pytest.mark.parametrize('type', TYPES)
@pytest.mark.parametrize(
    'cfg', [dict(out_indices=(0,)), dict(out_indices=(0, 1)), dict(qkv_bias=False)], ids=str
)
def test_options(type, cfg):
    follow(pvt(type, **cfg), (32, 40))


@pytest.mark.parametrize(
    'cfg',
    [
        dict(use_abs_pos_embed=False),
        dict(norm_after_stage=True),
        dict(use_conv_ffn=True),
        dict(sr_ratios=[4, 2]),
        dict(patch_sizes=[4, 3], paddings=[0, 'corner']),
    ],
    ids=str,
)
def test_options_of_the_first(cfg):
    follow(pvt('PyramidVisionTransformer', **cfg), (32, 44))


@pytest.mark.parametrize('type', TYPES)
def test_checkpointing(type, run_checkpoint):
    assert_checkpointing(
        pvt(type),
        toys.images(size=32),
        toys.shares(grid=8),
        ['layers.0.1.1', 'layers.1.1.0'],
        run_checkpoint,
    )


def test_checkpointing_of_the_host(run_checkpoint):
    backbone = pvt('MixVisionTransformer', with_cp=True)
    assert_checkpointing(backbone, toys.images(size=32), toys.shares(grid=8), [], run_checkpoint)


@pytest.mark.parametrize('type', TYPES)
def test_compiles(type):
    layers = [1] * OWN[type].get('num_stages', 2)
    assert_compiles(
        pvt(type, num_layers=layers), toys.images(size=(32, 40)), toys.shares(grid=(8, 10))
    )


@pytest.mark.parametrize('type', TYPES)
def test_refuses_attention_dropout(type):
    # hidden in `nn.MultiheadAttention.dropout`
    first = 1 if type == 'PyramidVisionTransformer' else 0
    assert_refuses_attention_dropout(pvt(type, attn_drop_rate=0.3), f'layers.0.1.{first}.attn.attn')


@pytest.mark.parametrize('type', TYPES)
def test_refuses_other_modules(type):
    assert_refuses_other_modules(
        pvt(type), ['layers.1.0', 'layers.0.1.1', 'layers.0.1.1.attn', 'layers.0.1.1.attn.attn']
    )


def test_attention_to_patches_needs_keys_that_are_patches():
    backbone = pvt('MixVisionTransformer')
    trace = LabelTrace(backbone, watch='patches')
    with trace(toys.shares(grid=8)):
        backbone(toys.images(size=32))
    assert trace.attention.shape == (2, 16)
    with pytest.raises(ValueError, match='needs attention over all tokens'):
        LabelTrace(pvt('MixVisionTransformer', sr_ratios=[2, 2]), watch='patches')
