"""Shares through LeViT, against float64."""

from functools import partial

import pytest
import torch
from mmpretrain.models import LeViT

from mmtlalign.alignment import LabelTrace
from tests.oracles.levit import levit_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

follow = partial(assert_family, oracle=levit_labels)


@pytest.fixture(autouse=True)
def small_architectures(monkeypatch):
    """The host takes architectures by name only."""
    two = dict(embed_dims=[32, 48], num_heads=[2, 3], depths=[2, 1], key_dims=[8, 8])
    three = dict(embed_dims=[16, 32, 32], num_heads=[2, 2, 2], depths=[1, 1, 1], key_dims=[8, 8, 8])
    monkeypatch.setattr(LeViT, 'arch_zoo', dict(two=two, three=three))


def levit(arch='two', img_size=64, **cfg):
    """Patches of 16 pixels, as the host has them."""
    return toys.build('LeViT', arch=arch, img_size=img_size, **cfg)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(),
        dict(out_indices=0),
        dict(out_indices=(0, 1)),
        dict(mlp_ratio=0),
        dict(attn_ratio=1, deploy=True),
        dict(drop_path_rate=0.5),
    ],
    ids=str,
)
def test_contract(cfg):
    backbone = levit(**cfg)
    backbone.eval()
    follow(backbone, toys.images(size=64), toys.shares())


@pytest.mark.parametrize('arch, out_indices', [('two', 1), ('three', 2), ('three', 1)])
def test_odd_grids_in_training(arch, out_indices):
    # 5 x 5 tokens, then 3 x 3, then 2 x 2
    follow(levit(arch, 80, out_indices=out_indices), toys.images(size=80), toys.shares(grid=5))


def test_grid_after_subsampling():
    backbone = levit(img_size=80)
    trace = LabelTrace(backbone, record=True, watch='patches')
    with trace(toys.shares(grid=5)):
        backbone(toys.images(size=80))
    assert trace.block_grids == [(5, 5)] * 2 + [(3, 3)] * 2
    torch.testing.assert_close(trace.attention.sum(1), torch.ones(2))


def test_checkpointing(run_checkpoint):
    backbone = levit()
    backbone.eval()
    assert_checkpointing(
        backbone,
        toys.images(size=64),
        toys.shares(),
        ['stages.0.0', 'stages.1.0', 'stages.1.2'],
        run_checkpoint,
    )


def test_compilation():
    LeViT.arch_zoo['two'].update(depths=[1, 1])
    assert_compiles(levit(), toys.images(size=64), toys.shares())


def test_contribution_is_refused():
    with pytest.raises(ValueError, match="'contribution' needs .*LeViT"):
        LabelTrace(levit(), propagation='contribution')
