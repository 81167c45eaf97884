"""Layers that are sharded together, by the backbone's family."""

import pytest
from mmpretrain.registry import MODELS
from torch import nn

from mmtlalign.engine.sharding.layers import transformer_layers

VIT = dict(
    type='mmpretrain.VisionTransformer',
    img_size=16,
    patch_size=4,
    arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16),
)
SWIN = dict(
    type='mmpretrain.SwinTransformer',
    img_size=32,
    patch_size=2,
    window_size=4,
    out_indices=(1,),
    arch=dict(embed_dims=8, depths=[2, 1], num_heads=[1, 2]),
)


def model(cfg):
    holder = nn.Module()
    holder.backbone = MODELS.build(cfg)
    return holder


@pytest.mark.parametrize(
    'cfg, names',
    [
        (VIT, ['layers.0', 'layers.1', 'layers.2']),
        (SWIN, ['stages.0.blocks.0', 'stages.0.blocks.1', 'stages.1.blocks.0']),
        (dict(type='mmpretrain.ResNet', depth=18, base_channels=4), []),
    ],
)
def test_they_are_where_tokens_mix(cfg, names):
    whole = model(cfg)
    found = transformer_layers(whole)
    assert found == [whole.backbone.get_submodule(name) for name in names]


def test_a_model_without_a_backbone_has_none():
    assert transformer_layers(nn.Linear(2, 2)) == []
