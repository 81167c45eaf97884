"""Shares through PCPVT and SVT, against a dense oracle."""

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.oracles.twins import dense_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

from .refusals import assert_refuses_attention_dropout, assert_refuses_other_modules

ARCH = dict(
    embed_dims=[16, 32],
    depths=[2, 2],
    num_heads=[1, 2],
    patch_sizes=[4, 2],
    strides=[4, 2],
    mlp_ratios=[2, 2],
    sr_ratios=[2, 1],
)
WINDOWS = dict(window_sizes=[3, 2])
TYPES = ['PCPVT', 'SVT']


def twins(type, arch=None, **cfg):
    """Two stages of two blocks; windows of 3 and 2 tokens in SVT."""
    arch = {**ARCH, **(WINDOWS if type == 'SVT' else {}), **(arch or {})}
    return toys.build(type, arch=arch, **{'out_indices': (1,), **cfg})


def follow(backbone, size):
    grid = tuple(-(-side // 4) for side in size)
    assert_family(
        backbone, toys.images(size=size), toys.shares(grid=grid), dense_labels, exact=False
    )


@pytest.mark.parametrize('type', TYPES)
@pytest.mark.parametrize(
    'size',
    [
        (24, 24),  # windows and reductions fit
        (24, 32),  # windows are padded on one side: the host's mask is empty
        (28, 40),  # padded on both sides; the last row is left out of the keys
        (27, 39),  # not even whole patches: embeddings are padded as well
    ],
    ids=str,
)
def test_sizes(type, size):
    follow(twins(type), size)


@pytest.mark.parametrize('type', TYPES)
@pytest.mark.parametrize(
    'cfg',
    [
        dict(out_indices=(0,)),
        dict(out_indices=(0, 1)),
        dict(qkv_bias=True),
        dict(norm_after_stage=True),
        dict(arch=dict(sr_ratios=[4, 2])),
        dict(arch=dict(patch_sizes=[5, 3])),  # overlapping embeddings
    ],
    ids=str,
)
def test_options(type, cfg):
    follow(twins(type, **cfg), (28, 36))


@pytest.mark.parametrize('type', TYPES)
def test_checkpointing(type, run_checkpoint):
    assert_checkpointing(
        twins(type),
        toys.images(size=24),
        toys.shares(grid=6),
        ['stages.0.0', 'stages.1.1'],
        run_checkpoint,
    )


@pytest.mark.parametrize('type', TYPES)
def test_compiles(type):
    # SVT's second block attends to all tokens
    backbone = twins(type, dict(depths=[1, 1] if type == 'PCPVT' else [2, 1]))
    assert_compiles(backbone, toys.images(size=(24, 28)), toys.shares(grid=(6, 7)))


@pytest.mark.parametrize('type', TYPES)
def test_refuses_attention_dropout(type):
    assert_refuses_attention_dropout(twins(type, attn_drop_rate=0.3), 'stages.0.0.attn')


def test_refuses_an_output_that_is_never_given():
    with pytest.raises(ValueError, match='asks for 3, but'):
        LabelTrace(twins('PCPVT', out_indices=(1, 3)))


def test_refuses_other_modules():
    assert_refuses_other_modules(
        twins('SVT'),
        ['patch_embeds.1', 'stages.0.0', 'stages.0.0.attn', 'stages.1.1', 'stages.1.1.attn'],
    )


def test_attention_to_patches_needs_keys_that_are_patches():
    trace = LabelTrace(twins('PCPVT'), watch='patches')
    with trace(toys.shares(grid=6)):
        trace.backbone(toys.images(size=24))
    assert trace.attention.shape == (2, 9)
    torch.testing.assert_close(trace.attention.sum(1), torch.ones(2))
    with pytest.raises(ValueError, match='needs attention over all tokens'):
        LabelTrace(twins('PCPVT', dict(sr_ratios=[2, 2])), watch='patches')


def test_other_propagations_are_refused():
    with pytest.raises(
        ValueError, match='needs projection, residual, values where SVT mixes tokens'
    ):
        LabelTrace(twins('SVT'), propagation='contribution')
