"""Layers that are sharded together, by the backbone's family."""

from mmpretrain.registry import MODELS
from torch import nn

from mmtlalign.engine.sharding.layers import transformer_layers

from ..toy import SWIN


def test_they_are_where_tokens_mix():
    model = nn.Module()
    assert transformer_layers(model) == []
    model.backbone = MODELS.build(SWIN)
    stages = model.backbone.stages
    assert transformer_layers(model) == [block for stage in stages for block in stage.blocks]
