"""Shares through ViTSAM, against a dense oracle."""

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.oracles.vit_sam import dense_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

from .refusals import assert_refuses_other_modules


def sam(**cfg):
    """Three blocks: windows of 3 x 3, global, windows."""
    arch = dict(
        embed_dims=16,
        num_layers=cfg.pop('num_layers', 3),
        num_heads=2,
        feedforward_channels=32,
        global_attn_indexes=cfg.pop('global_attn_indexes', [1]),
    )
    cfg = dict(img_size=20, patch_size=4, window_size=3, out_channels=8) | cfg
    return toys.build('ViTSAM', arch=arch, **cfg)


def follow(backbone, size):
    grid = tuple(-(-side // 4) for side in size)
    assert_family(backbone, toys.images(size=size), toys.shares(grid=grid), dense_labels)


@pytest.mark.parametrize(
    'size',
    [
        (24, 24),  # windows fit
        (20, 28),  # padded on both sides
        (24, 32),  # padded on one side
        (22, 27),  # not even whole patches
    ],
    ids=str,
)
def test_sizes(size):
    follow(sam(), size)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(out_indices=0),
        dict(out_indices=[0, 1]),
        dict(out_type='featmap'),
        dict(out_type='avg_featmap'),
        dict(out_channels=0),
        dict(use_rel_pos=False),
        dict(use_abs_pos=False),
        dict(qkv_bias=False),
        dict(window_size=4),
        dict(global_attn_indexes=[0, 1, 2]),
        dict(global_attn_indexes=[]),
    ],
    ids=str,
)
def test_options(cfg):
    follow(sam(**cfg), (20, 24))


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        sam(), toys.images(size=20), toys.shares(grid=5), ['layers.0', 'layers.1'], run_checkpoint
    )


def test_compiles():
    assert_compiles(sam(num_layers=2), toys.images(size=(20, 24)), toys.shares(grid=(5, 6)))


def test_refuses_an_output_that_is_never_given():
    with pytest.raises(ValueError, match='asks for 3, but'):
        LabelTrace(sam(out_indices=3))


def test_refuses_other_modules():
    assert_refuses_other_modules(sam(), ['layers.0', 'layers.0.attn', 'layers.1.attn'])


def test_attention_to_patches():
    backbone = sam(global_attn_indexes=[2])
    trace = LabelTrace(backbone, watch='patches')
    with trace(toys.shares(grid=5)):
        backbone(toys.images(size=20))
    assert trace.attention.shape == (2, 25)
    torch.testing.assert_close(trace.attention.sum(1), torch.ones(2))
    with pytest.raises(ValueError, match='needs attention over all tokens'):
        LabelTrace(sam(), watch='patches')
