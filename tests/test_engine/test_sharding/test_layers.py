"""Layers that are sharded together, by the backbone's family."""

import pytest
from mmpretrain.registry import MODELS
from torch import nn

from mmtlalign.engine.sharding.layers import transformer_layers

from ..toy import SWIN, VIT


def model(cfg):
    holder = nn.Module()
    holder.backbone = MODELS.build(cfg)
    return holder


@pytest.mark.parametrize(
    'cfg, names',
    [
        (VIT, ['layers.0', 'layers.1', 'layers.2']),
        (SWIN, [f'stages.{i}.blocks.{k}' for i, k in ((0, 0), (1, 0), (1, 1), (2, 0))]),
        (dict(type='mmpretrain.ResNet', depth=18, base_channels=4), []),
    ],
)
def test_they_are_where_tokens_mix(cfg, names):
    whole = model(cfg)
    found = transformer_layers(whole)
    assert found == [whole.backbone.get_submodule(name) for name in names]


def test_a_model_without_a_backbone_has_none():
    assert transformer_layers(nn.Linear(2, 2)) == []
