"""Common mistakes with a trace, each with one clear error."""

import pytest
import torch
import torchvision
from mmpretrain.models import VisionTransformer
from torch import nn

from mmtlalign.alignment import LabelTrace, Propagation
from tests.test_alignment import toys


class OtherOutput(VisionTransformer):
    """Keeps ``forward``, and changes what that hands on to."""

    def _format_output(self, x, hw):
        return x.mean(1)


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
        (
            OtherOutput(arch=toys.VIT, img_size=16, patch_size=4),
            'OtherOutput of .* overrides _format_output',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_known_backbone(backbone, message):
    with pytest.raises(TypeError, match=message):
        LabelTrace(backbone)


@pytest.mark.parametrize('type', ['SwinTransformer', 'SwinTransformerV2'])
def test_negative_out_indices_of_which_the_host_makes_nothing(type):
    with pytest.raises(ValueError, match=r'out_indices \(-1,\).* 0 to 1'):
        LabelTrace(toys.swin(type, out_indices=(-1,)))


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


def test_the_grid_after_a_watched_forward_is_that_of_what_was_watched():
    backbone = toys.build(
        'LeViT',
        arch='128s',
        img_size=64,
        patch_size=16,
        attn_ratio=2,
        mlp_ratio=2,
        out_indices=(0,),
    )
    backbone.eval()
    trace = LabelTrace(backbone, watch='patches')
    images = toys.images(size=64)
    with trace(toys.shares(grid=trace.grid_of(images))):
        backbone(images)
    assert trace.grid == (4, 4)
    assert trace.attention.shape == (2, 16)
