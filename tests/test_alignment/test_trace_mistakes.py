"""Common mistakes with a trace, each with one clear error."""

import pytest
import torch
import torchvision
from mmpretrain import models
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
    'build, cfg, message',
    [
        (lambda: None, {}, 'not a NoneType'),
        (Wrapper, dict(module=toys.vit()), r'what it wraps \(.module\)'),
        (torch.compile, dict(model=toys.vit()), r'what it wraps \(._orig_mod\)'),
        (torchvision.models.swin_t, {}, 'SwinTransformer of torchvision; '),
        (OtherOutput, VIT, 'OtherOutput of .* overrides _format_output'),
        (ChangedSwin, dict(arch=toys.SWIN, out_indices=(1,)), 'ChangedSwin '),
        (ImageClassifier, dict(backbone=dict(type='ResNet', depth=18)), 'ImageClassifier'),
        (models.ResNet, dict(depth=18), r'\bResNet\b'),
        (models.BEiTPretrainViT, VIT, r'\bBEiTPretrainViT\b'),
        (models.MAEViT, VIT, r'\bMAEViT\b'),
        (models.MFFViT, dict(VIT, out_indices=[2]), r'\bMFFViT\b'),
        (
            models.SimMIMSwinTransformer,
            dict(arch=toys.SWIN, img_size=32, out_indices=(1,)),
            r'\bSimMIMSwinTransformer\b',
        ),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_what_is_no_known_backbone(build, cfg, message):
    backbone = build(**cfg)
    before = None if backbone is None else snapshot(backbone)
    with pytest.raises(TypeError, match=message) as error:
        LabelTrace(backbone)
    if before:
        for name in ('VisionTransformer', 'DeiT3', 'SwinTransformerV2'):
            assert name in str(error.value)
        assert_untouched(backbone, before)


@pytest.mark.parametrize('propagation', [None, ['tlalign'], Propagation])
def test_what_is_no_propagation(propagation):
    with pytest.raises(TypeError, match='must be a name, a dict'):
        LabelTrace(toys.vit(), propagation=propagation)


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
