"""Shares through LeViT, against float64."""

import pytest
from mmpretrain.models import LeViT

from mmtlalign.alignment import LabelTrace
from tests.oracles.pyramids import levit_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract

# The host takes architectures by name only.
SMALL = dict(
    two=dict(embed_dims=[32, 48], num_heads=[2, 3], depths=[2, 1], key_dims=[8, 8]),
    three=dict(embed_dims=[16, 32, 32], num_heads=[2, 2, 2], depths=[1, 1, 1], key_dims=[8, 8, 8]),
)


@pytest.fixture(autouse=True)
def small_architectures(monkeypatch):
    monkeypatch.setattr(LeViT, 'arch_zoo', SMALL)


class TestLeViT(FamilyContract):
    oracle = staticmethod(levit_labels)
    size, patch = 64, 16
    variants = [
        dict(),
        dict(out_indices=0),
        dict(out_indices=(0, 1), mlp_ratio=0),
        dict(attn_ratio=1, deploy=True),
        # 5 x 5 tokens, then 3 x 3, then 2 x 2
        dict(arch='three', img_size=80, size=80, out_indices=1),
        dict(arch='three', img_size=80, size=80, out_indices=2, training=True),
    ]
    checkpointed = ['stages.0.0', 'stages.1.0', 'stages.1.2']
    rates = dict(drop_path_rate=0.5)
    watched = ('patches',)
    modules = ['stages.0.0', 'stages.0.0.block', 'stages.1.0', 'stages.0.1.block']
    refused = [(dict(propagation='contribution'), "'contribution' needs .*LeViT")]

    def make(self, arch='two', training=False, **cfg):
        cfg = dict(img_size=64, drop_path_rate=0.0) | cfg
        backbone = toys.build('LeViT', arch=arch, **cfg)
        backbone.train(training)
        return backbone

    def test_grids(self):
        trace = LabelTrace(self.make(img_size=80), record=True)
        images, share = self.inputs(80)
        with trace(share):
            trace.backbone(images)
        assert trace.block_grids == [(5, 5)] * 2 + [(3, 3)] * 2

    def test_watch_before_subsampling(self):
        self.watched_cfg = dict(out_indices=0)
        self.test_watch()
