"""The hosts' rates, for models of which the host knows no depth; those of every detector are in
``test_configs/test_dense.py``."""

import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from mmtlalign.errors import UserError

from .toy import VIT

LR, DECAY, RATE = 1e-3, 0.05, 0.5


def build(model, constructor='mmtlalign.LayerDecayOptimWrapperConstructor'):
    """Rate and decay of every parameter of a model that is trained."""
    undecayed = {key: dict(decay_mult=0.0) for key in ('.cls_token', '.pos_embed')}
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor=constructor,
            optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
            paramwise_cfg=dict(layer_decay_rate=RATE, norm_decay_mult=0.0, custom_keys=undecayed),
        ),
    )
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    groups = {}
    for group in wrapper.optimizer.param_groups:
        (parameter,) = group['params']
        groups[names.pop(id(parameter))] = (group['lr'], group['weight_decay'])
    assert not names  # every parameter is in exactly one group
    return groups


def test_equals_the_hosts_constructor_on_its_own_classifier():
    head = dict(type='mmpretrain.VisionTransformerClsHead', num_classes=3, in_channels=8)
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            # whatever scope an earlier test has left
            data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
            backbone=VIT,
            head=dict(head, loss=dict(type='mmpretrain.CrossEntropyLoss')),
        )
    )
    assert build(model) == build(model, 'mmpretrain.LearningRateDecayOptimWrapperConstructor')


@pytest.mark.parametrize('backbone', [None, nn.Conv2d(3, 3, 1)])
def test_a_backbone_without_depths_is_refused(backbone):
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(1))
    model.backbone = backbone
    with pytest.raises(UserError, match=re.escape(f'is a {type(backbone).__name__}')):
        build(model)
