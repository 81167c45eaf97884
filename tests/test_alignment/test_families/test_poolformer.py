"""Shares through PoolFormer, against float64."""

from functools import partial

import pytest

from mmtlalign.alignment import LabelTrace
from tests.oracles.poolformer import poolformer_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

follow = partial(assert_family, oracle=poolformer_labels)


def poolformer(layers=(2, 1), embed_dims=(8, 16), out_indices=(2,), **cfg):
    """Two stages after patches of 4 pixels."""
    arch = dict(layers=list(layers), embed_dims=list(embed_dims), layer_scale_init_value=1.0)
    return toys.build('PoolFormer', arch=arch, out_indices=list(out_indices), **cfg)


@pytest.mark.parametrize(
    'size, grid',
    [
        ((32, 32), (8, 8)),
        ((24, 44), (6, 11)),
        ((20, 28), (5, 7)),  # odd, so that cells of the merging are cut off
    ],
    ids=str,
)
def test_sizes(size, grid):
    follow(poolformer(), toys.images(size=size), toys.shares(grid=grid))


@pytest.mark.parametrize(
    'cfg',
    [
        dict(out_indices=(0,)),
        dict(out_indices=(1,)),  # what is merged, before its stage
        dict(out_indices=(0, 2)),
        dict(pool_size=5),
        dict(down_patch_size=2, down_pad=0),
        dict(embed_dims=(8, 8), out_indices=(1,)),  # nothing is merged
        dict(layers=(1, 1, 1), embed_dims=(8, 16, 24), out_indices=(4,)),
    ],
    ids=str,
)
def test_contract(cfg):
    follow(poolformer(**cfg), toys.images(size=32), toys.shares(grid=8))


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        poolformer(frozen_stages=-1),
        toys.images(size=32),
        toys.shares(grid=8),
        ['network.0.1', 'network.1', 'network.2'],
        run_checkpoint,
    )


def test_compilation():
    assert_compiles(poolformer(layers=(1, 1)), toys.images(size=32), toys.shares(grid=8))


def test_what_pooling_cannot_offer_is_refused():
    with pytest.raises(ValueError, match="'contribution' needs .*PoolFormer"):
        LabelTrace(poolformer(), propagation='contribution')
    with pytest.raises(ValueError, match="watch='patches' .*PoolFormer"):
        LabelTrace(poolformer(), watch='patches')


def test_output_that_the_host_never_gives_is_refused():
    # the host's own default counts to seven, whatever the depth
    backbone = poolformer()
    backbone.out_indices = [6]
    with pytest.raises(ValueError, match='asks for 6, but'):
        LabelTrace(backbone)
