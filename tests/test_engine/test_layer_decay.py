import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from mmtlalign.errors import UserError
from mmtlalign.models.necks import SimpleFeaturePyramid

from . import toy

LR, DECAY, RATE = 1e-3, 0.05, 0.5

# Of two blocks, the rate over LR, whether it decays, and the parameters' names or modules. Norms,
# the class token and positions do not; biases do, as in the recipes for detection.
GROUPS = """
1/8 no  backbone.cls_token backbone.pos_embed
1/8 yes backbone.patch_embed.projection
1/4 no  backbone.layers.0.ln1 backbone.layers.0.ln2
1/4 yes backbone.layers.0.attn.qkv backbone.layers.0.attn.proj
1/4 yes backbone.layers.0.ffn.layers.0.0 backbone.layers.0.ffn.layers.1
1/2 no  backbone.layers.1.ln1 backbone.layers.1.ln2
1/2 yes backbone.layers.1.attn.qkv backbone.layers.1.attn.proj
1/2 yes backbone.layers.1.ffn.layers.0.0 backbone.layers.1.ffn.layers.1
1 no    backbone.ln1 neck.levels.0.1.ln neck.levels.0.2.ln
1 yes   neck.levels.0.0 neck.levels.0.1.conv neck.levels.0.2.conv head
"""
VIT = dict(toy.VIT, arch=dict(toy.VIT['arch'], num_layers=2))


class Detector(nn.Module):
    """The parts of a detector, by their names."""

    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(dict(VIT, out_type='featmap'))
        self.neck = SimpleFeaturePyramid(8, 4, scales=(2,), num_outs=1)
        self.head = nn.Linear(4, 2)


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


def expected(model):
    """The same by the listing above, in which every parameter is once."""
    found = {}
    for name, _ in model.named_parameters():
        (line,) = (
            line
            for line in GROUPS.split('\n')
            if {name, name.rpartition('.')[0]} & {*line.split()[2:]}
        )
        rate, decays = line.split()[:2]
        numerator, _, denominator = rate.partition('/')
        rate = LR * int(numerator) / int(denominator or 1)
        found[name] = (pytest.approx(rate, rel=1e-12), DECAY if decays == 'yes' else 0)
    return found


def test_rate_and_decay_of_every_parameter():
    model = Detector()
    assert build(model) == expected(model)


def test_wrapped_and_frozen_models():
    model = Detector()
    model.backbone.patch_embed.requires_grad_(False)
    wrapped = nn.Module()
    wrapped.module = model  # as DistributedDataParallel does
    groups = build(wrapped)
    assert not any('patch_embed' in name for name in groups)
    assert {name.removeprefix('module.'): rate for name, (rate, _) in groups.items()} == {
        name: rate for name, (rate, _) in expected(model).items() if 'patch_embed' not in name
    }


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
