"""Common mistakes with a trace, each with one clear error."""

import mmpretrain.models
import pytest
import torch
import torchvision
from mmpretrain.models import ImageClassifier, SwinTransformer, VisionTransformer
from torch import nn

from mmtlalign.alignment import LabelTrace, Propagation
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_untouched, snapshot

VIT = dict(arch=toys.VIT, img_size=16, patch_size=4)


class OtherOutput(VisionTransformer):
    """Keeps ``forward``, and changes what that hands on to."""

    def _format_output(self, x, hw):
        return x.mean(1)


class ChangedSwin(SwinTransformer):
    """A subclass that might compute anything."""

    def forward(self, x):
        return super().forward(x)


class Wrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


@pytest.mark.parametrize(
    'backbone, message',
    [
        (None, 'not a NoneType'),
        ('vit', 'not a str'),
        (Wrapper(toys.vit()), r'what it wraps \(.module\)'),
        (torch.compile(toys.vit()), r'what it wraps \(._orig_mod\)'),
        (
            torchvision.models.swin_t(),
            'SwinTransformer of torchvision; .*mmpretrain.SwinTransformer',
        ),
        (OtherOutput(**VIT), 'OtherOutput of .* overrides _format_output'),
        (ChangedSwin(toys.SWIN, out_indices=(1,)), 'ChangedSwin .*SwinTransformerV2'),
        (ImageClassifier(dict(type='ResNet', depth=18)), 'ImageClassifier'),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_known_backbone(backbone, message):
    with pytest.raises(TypeError, match=message):
        LabelTrace(backbone)


@pytest.mark.parametrize(
    'type, cfg',
    [
        ('ResNet', dict(depth=18)),
        ('BEiTPretrainViT', VIT),
        ('MAEViT', VIT),
        ('MFFViT', dict(VIT, out_indices=[2])),
        ('SimMIMSwinTransformer', dict(arch=toys.SWIN, img_size=32, out_indices=(1,))),
    ],
)
def test_other_backbones_of_the_host(type, cfg):
    backbone = getattr(mmpretrain.models, type)(**cfg)
    before = snapshot(backbone)
    with pytest.raises(TypeError, match=rf'\b{type}\b') as error:
        LabelTrace(backbone)
    for name in ('VisionTransformer', 'DeiT3', 'SwinTransformerV2'):
        assert name in str(error.value)
    assert_untouched(backbone, before)


@pytest.mark.parametrize('propagation', [None, ['tlalign'], Propagation])
def test_what_is_no_propagation(propagation):
    with pytest.raises(TypeError, match='must be a name, a dict'):
        LabelTrace(toys.vit(), propagation=propagation)


def test_a_block_in_the_place_of_another_is_noticed():
    # four moves of three blocks would add up to three if one never moved
    backbone = toys.vit()
    trace = LabelTrace(backbone)
    backbone.layers[1] = backbone.layers[0]
    with pytest.raises(RuntimeError, match='modules replaced'):
        with trace(toys.shares()):
            backbone(toys.images())


def test_a_part_of_the_backbone_in_place_of_it():
    backbone = toys.vit()
    trace = LabelTrace(backbone)
    with trace(toys.shares()):
        backbone.patch_embed(toys.images())
    with pytest.raises(RuntimeError, match='not a part such as'):
        trace.output_share


def test_parts_are_given_to_a_propagation_that_needs_nothing_else():

    class Recorder(Propagation):
        needs = frozenset({'values'})
        seen = []

        def __call__(self, share, mixed, parts=None):
            self.seen.append(parts)
            return mixed

    backbone = toys.vit()
    with LabelTrace(backbone, propagation=Recorder())(toys.shares()):
        backbone(toys.images())
    assert len(Recorder.seen) == 3 and None not in Recorder.seen
