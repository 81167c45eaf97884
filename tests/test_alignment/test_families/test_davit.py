"""Shares through DaViT, against a dense oracle."""

import pytest

from mmtlalign.alignment import LabelTrace
from tests.oracles.davit import dense_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

from .refusals import assert_refuses_attention_dropout, assert_refuses_other_modules


def davit(**cfg):
    """Two stages of one and two blocks with windows of 3 x 3."""
    cfg = (
        dict(
            arch=dict(embed_dims=16, depths=[1, 2], num_heads=[1, 2]),
            window_size=3,
            out_indices=(1,),
            drop_path_rate=0.0,
            pad_small_map=True,
        )
        | cfg
    )
    return toys.build('DaViT', **cfg)


def follow(backbone, size):
    grid = tuple(-(-side // 4) for side in size)
    assert_family(backbone, toys.images(size=size), toys.shares(grid=grid), dense_labels)


@pytest.mark.parametrize(
    'size',
    [
        (24, 24),  # windows fit: 6 x 6, then 3 x 3 tokens
        (24, 40),  # padded to whole windows
        (28, 32),  # 7 x 8 tokens: merging leaves the last row out
        (22, 39),  # not even whole patches
        (16, 16),  # the last map is smaller than a window
    ],
    ids=str,
)
def test_sizes(size):
    follow(davit(), size)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(out_indices=(0,)),
        dict(out_indices=(0, 1)),
        dict(out_after_downsample=True),
        dict(patch_size=4, pad_small_map=False),
        dict(qkv_bias=False),
        dict(norm_cfg=dict(type='LN', eps=1e-3)),
        dict(stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(qk_scale=0.7)))),
        dict(stage_cfgs=dict(downsample_cfg=dict(kernel_size=3, padding=1))),
    ],
    ids=str,
)
def test_options(cfg):
    follow(davit(**cfg), (28, 40))


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        davit(),
        toys.images(size=24),
        toys.shares(grid=6),
        ['stages.0.blocks.0', 'stages.1.blocks.1'],
        run_checkpoint,
    )


def test_checkpointing_of_the_host(run_checkpoint):
    assert_checkpointing(
        davit(with_cp=True), toys.images(size=24), toys.shares(grid=6), [], run_checkpoint
    )


def test_compiles():
    assert_compiles(
        davit(arch=dict(embed_dims=16, depths=[1, 1], num_heads=[1, 2])),
        toys.images(size=(24, 32)),
        toys.shares(grid=(6, 8)),
    )


def test_refuses_attention_dropout():
    block_cfgs = dict(attn_cfgs=dict(attn_drop=0.3))
    assert_refuses_attention_dropout(
        davit(stage_cfgs=dict(block_cfgs=block_cfgs)), 'stages.0.blocks.0.spatial_block.attn.w_msa'
    )


def test_refuses_what_shares_cannot_follow():
    with pytest.raises(ValueError, match='asks for 2, but'):
        backbone = davit()
        backbone.out_indices = (0, 2)
        LabelTrace(backbone)
    with pytest.raises(
        ValueError,
        match=r'stages\.0\.downsample merges with '
        r'dilation \(2, 2\)',
    ):
        LabelTrace(davit(stage_cfgs=dict(downsample_cfg=dict(dilation=2))))


def test_refuses_other_modules():
    assert_refuses_other_modules(
        davit(),
        [
            'stages.0.blocks.0',
            'stages.0.blocks.0.spatial_block',
            'stages.0.blocks.0.channel_block',
            'stages.0.blocks.0.spatial_block.attn',
            'stages.0.blocks.0.spatial_block.attn.w_msa',
            'stages.0.downsample',
        ],
    )
