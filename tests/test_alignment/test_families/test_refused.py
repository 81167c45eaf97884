"""What is refused, and that docs/backbones.md says of all what is true."""

import re
from pathlib import Path

import mmpretrain.models.backbones
import pytest
import torch
import torchvision
from mmpretrain import models
from mmpretrain.models import ImageClassifier, SwinTransformer, VisionTransformer
from torch import nn

from mmtlalign.alignment import LabelTrace, refused_backbones, supported_backbones
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_untouched, snapshot

REFUSED = {
    name: reason for name, reason in refused_backbones().items() if name.startswith('mmpretrain.')
}


def rows():
    """Name, verdict, reason and mark of each backbone in the tables of the page."""
    for line in (Path(__file__).parents[3] / 'docs/backbones.md').read_text().splitlines():
        if line.startswith('| `'):
            names, verdict, reason = line.strip('| ').split(' | ')
            for name in re.findall(r'`([\w.]+)`', names):
                name = name if '.' in name else f'mmpretrain.{name}'
                yield name, verdict, reason, names.endswith('*c*')


ROWS = sorted(rows())


@pytest.mark.parametrize('name', REFUSED)
def test_backbone_is_refused_with_its_reason(name):
    cls = getattr(mmpretrain.models.backbones, name.partition('.')[2])
    with pytest.raises(TypeError) as error:
        LabelTrace(cls.__new__(cls))  # its class alone decides
    assert str(error.value) == f'{cls.__name__} is refused: {REFUSED[name]}.'


def test_page_says_of_every_backbone_of_the_host_what_is_true():
    assert {row[1] for row in ROWS} == {'supported', 'refused', 'unknown'}
    assert [row[0] for row in ROWS if row[1] == 'supported'] == supported_backbones()
    assert {row[0]: row[2] for row in ROWS if row[1] == 'refused'} == REFUSED
    listed = [row[0] for row in ROWS if row[0].startswith('mmpretrain.')]
    assert listed == sorted(f'mmpretrain.{name}' for name in mmpretrain.models.backbones.__all__)


@pytest.mark.parametrize(
    'name', [row[0].partition('.')[2] for row in ROWS if row[3] and row[0].startswith('mmpre')]
)
def test_marked_backbones_offer_contributions(name):
    build = toys.swin if name.startswith('Swin') else toys.vit
    LabelTrace(build(name), propagation='contribution')


VIT = dict(arch=toys.VIT, img_size=16, patch_size=4)

SIZES = dict(patch_size=[4, 4], embed_dim=8, depths=[2], num_heads=[1], window_size=[4, 4])


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
        (torchvision.models.SwinTransformer, SIZES, 'SwinTransformer of torchvision; '),
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
