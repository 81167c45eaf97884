import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from mmtlalign.errors import UserError
from mmtlalign.models.necks import SimpleFeaturePyramid

LR, DECAY, RATE = 1e-3, 0.05, 0.5

# Of two blocks, every parameter: its rate over LR, and whether it decays. Norms, the class token
# and positions do not; biases do, as in the recipes for detection.
BACKBONE = """
backbone.cls_token 1/8 no
backbone.pos_embed 1/8 no
backbone.patch_embed.projection.weight 1/8 yes
backbone.patch_embed.projection.bias 1/8 yes
backbone.layers.0.ln1.weight 1/4 no
backbone.layers.0.ln1.bias 1/4 no
backbone.layers.0.attn.qkv.weight 1/4 yes
backbone.layers.0.attn.qkv.bias 1/4 yes
backbone.layers.0.attn.proj.weight 1/4 yes
backbone.layers.0.attn.proj.bias 1/4 yes
backbone.layers.0.ln2.weight 1/4 no
backbone.layers.0.ln2.bias 1/4 no
backbone.layers.0.ffn.layers.0.0.weight 1/4 yes
backbone.layers.0.ffn.layers.0.0.bias 1/4 yes
backbone.layers.0.ffn.layers.1.weight 1/4 yes
backbone.layers.0.ffn.layers.1.bias 1/4 yes
backbone.layers.1.ln1.weight 1/2 no
backbone.layers.1.ln1.bias 1/2 no
backbone.layers.1.attn.qkv.weight 1/2 yes
backbone.layers.1.attn.qkv.bias 1/2 yes
backbone.layers.1.attn.proj.weight 1/2 yes
backbone.layers.1.attn.proj.bias 1/2 yes
backbone.layers.1.ln2.weight 1/2 no
backbone.layers.1.ln2.bias 1/2 no
backbone.layers.1.ffn.layers.0.0.weight 1/2 yes
backbone.layers.1.ffn.layers.0.0.bias 1/2 yes
backbone.layers.1.ffn.layers.1.weight 1/2 yes
backbone.layers.1.ffn.layers.1.bias 1/2 yes
backbone.ln1.weight 1 no
backbone.ln1.bias 1 no
"""
REST = """
neck.levels.0.0.weight 1 yes
neck.levels.0.0.bias 1 yes
neck.levels.0.1.conv.weight 1 yes
neck.levels.0.1.ln.weight 1 no
neck.levels.0.1.ln.bias 1 no
neck.levels.0.2.conv.weight 1 yes
neck.levels.0.2.ln.weight 1 no
neck.levels.0.2.ln.bias 1 no
head.weight 1 yes
head.bias 1 yes
"""


VIT = dict(
    type='mmpretrain.VisionTransformer',
    img_size=8,
    patch_size=4,
    arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16),
)


class Detector(nn.Module):
    """The parts of a detector, by their names."""

    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(dict(VIT, out_type='featmap'))
        self.neck = SimpleFeaturePyramid(8, 4, scales=(2,), num_outs=1)
        self.head = nn.Linear(4, 2)


def build(model, constructor='mmtlalign.LayerDecayOptimWrapperConstructor'):
    """The optimizer's groups of a model, by the names of parameters."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor=constructor,
            optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
            paramwise_cfg=dict(
                layer_decay_rate=RATE,
                norm_decay_mult=0.0,
                custom_keys={
                    '.cls_token': dict(decay_mult=0.0),
                    '.pos_embed': dict(decay_mult=0.0),
                },
            ),
        ),
    )
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {}
    for group in wrapper.optimizer.param_groups:
        (parameter,) = group['params']
        groups[names.pop(id(parameter))] = (group['lr'], group['weight_decay'])
    assert not names  # every parameter is in exactly one group
    return groups


def read(listing):
    """Rate and decay of every parameter of a listing above."""
    expected = {}
    for line in listing.split('\n'):
        if line:
            name, rate, decays = line.split()
            numerator, _, denominator = rate.partition('/')
            rate = LR * int(numerator) / int(denominator or 1)
            expected[name] = (pytest.approx(rate, rel=1e-12), DECAY if decays == 'yes' else 0)
    return expected


def test_rate_and_decay_of_every_parameter():
    assert build(Detector()) == read(BACKBONE + REST)


def test_wrapped_and_frozen_models():
    model = Detector()
    model.backbone.patch_embed.requires_grad_(False)
    expected = {
        name: value for name, value in read(BACKBONE + REST).items() if 'patch_embed' not in name
    }
    frozen = nn.Module()
    frozen.module = model  # as DistributedDataParallel does
    wrapper = build_optim_wrapper(
        frozen,
        dict(
            type='OptimWrapper',
            constructor='mmtlalign.LayerDecayOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
            paramwise_cfg=dict(layer_decay_rate=RATE, norm_decay_mult=0.0),
        ),
    )
    groups = {group['param_name']: group['lr'] for group in wrapper.optimizer.param_groups}
    assert groups == {name: rate for name, (rate, _) in expected.items()}


def test_equals_the_hosts_constructor_on_its_own_classifier():
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            # whatever scope an earlier test has left
            data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
            backbone=VIT,
            head=dict(
                type='mmpretrain.VisionTransformerClsHead',
                num_classes=3,
                in_channels=8,
                loss=dict(type='mmpretrain.CrossEntropyLoss'),
            ),
        )
    )
    assert build(model) == build(model, 'mmpretrain.LearningRateDecayOptimWrapperConstructor')


@pytest.mark.parametrize('backbone', [None, nn.Conv2d(3, 3, 1)])
def test_a_backbone_without_depths_is_refused(backbone):
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(1))
    model.backbone = backbone
    kind = type(backbone).__name__
    with pytest.raises(UserError, match=re.escape(f'is a {kind}')):
        build(model)
