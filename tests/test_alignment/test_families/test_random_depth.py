"""Stochastic depth and dropout outside attention move no share."""

import copy
import importlib

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_all_moved, assert_same

FAMILIES = [
    ('twins', 'twins', dict(type='PCPVT')),
    ('twins', 'twins', dict(type='SVT')),
    ('pvt', 'pvt', dict(type='PyramidVisionTransformer')),
    ('pvt', 'pvt', dict(type='MixVisionTransformer')),
    ('mvit', 'mvit', {}),
    ('davit', 'davit', {}),
    ('vit_sam', 'sam', {}),
    ('t2t_vit', 't2t', {}),
]
DROPS_TOKENS = ['twins', 'pvt', 'vit_sam', 't2t_vit']


@pytest.mark.parametrize('file, make, cfg', FAMILIES, ids=str)
def test_random_depth_and_dropout(file, make, cfg):
    # draws repeat only in the type of the traced forward: float32
    tests = importlib.import_module(f'{__package__}.test_{file}')
    oracle = importlib.import_module(f'tests.oracles.{file}').dense_labels
    rates = dict(drop_path_rate=0.5)
    if file in DROPS_TOKENS:
        rates['drop_rate'] = 0.2
    backbone = getattr(tests, make)(**cfg, **rates)
    backbone.train()
    images, token_share = toys.images(4, 32), toys.shares(4, 8)

    torch.manual_seed(1)
    stock = backbone(images)
    trace = LabelTrace(backbone, record=True)
    torch.manual_seed(1)
    with trace(token_share):
        assert_same(backbone(images), stock)

    own, partner = toys.class_labels(4)
    torch.manual_seed(1)
    with torch.no_grad():
        blocks, aligned = oracle(
            copy.deepcopy(backbone), images, toys.to_labels(token_share, own, partner).float()
        )
    assert_all_moved(trace, blocks, aligned, own, partner, 1e-5)
