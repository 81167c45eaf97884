"""Shares through MViT, against a dense oracle."""

import pytest

from mmtlalign.alignment import LabelTrace
from tests.oracles.mvit import dense_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

from .refusals import assert_refuses_other_modules


def mvit(**cfg):
    """Four blocks, of which two leave a quarter of the tokens; keys are
    strided in the first."""
    arch = dict(embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 3])
    arch.update(cfg.pop('arch', {}))
    return toys.build('MViT', arch=arch, **{'img_size': 32, **cfg})


def follow(backbone, size):
    grid = tuple(-(-side // 4) for side in size)
    assert_family(backbone, toys.images(size=size), toys.shares(grid=grid), dense_labels)


@pytest.mark.parametrize(
    'size',
    [
        (32, 32),
        (24, 40),
        (28, 33),  # 7 x 9 tokens: odd, so that pooling is padded
    ],
    ids=str,
)
def test_sizes(size):
    follow(mvit(), size)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(out_scales=0),
        dict(out_scales=1),
        dict(out_scales=[0, 2]),
        dict(out_scales=[0, 1, 2]),
        dict(adaptive_kv_stride=1),
        dict(pool_kernel=(5, 5)),
        dict(rel_pos_spatial=False),
        dict(residual_pooling=False),
        dict(dim_mul_in_attention=False),
        dict(use_abs_pos_embed=True),
        dict(qkv_bias=False),
    ],
    ids=str,
)
def test_options(cfg):
    follow(mvit(**cfg), (28, 32))


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        mvit(),
        toys.images(size=32),
        toys.shares(grid=8),
        ['blocks.0', 'blocks.1', 'blocks.2'],
        run_checkpoint,
    )


def test_compiles():
    backbone = mvit(arch=dict(num_layers=2, downscale_indices=[1]))
    assert_compiles(backbone, toys.images(size=(32, 24)), toys.shares(grid=(8, 6)))


def test_refuses_an_output_that_is_never_given():
    with pytest.raises(ValueError, match='asks for 3, but'):
        LabelTrace(mvit(out_scales=3))


def test_refuses_other_modules():
    assert_refuses_other_modules(mvit(), ['blocks.1', 'blocks.1.attn'])


def test_attention_to_patches_is_refused():
    with pytest.raises(ValueError, match='needs attention over all tokens'):
        LabelTrace(mvit(), watch='patches')
