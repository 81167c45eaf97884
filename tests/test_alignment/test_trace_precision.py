"""Shares in half precision: twelve layers, as deep as DeiT-S and Swin-T."""

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_equals_oracle


def make(type):
    arch = dict(depths=[6, 6])
    if type == 'VisionTransformer':
        arch = dict(num_layers=12, embed_dims=64, num_heads=4)
    backbone, images, share = toys.case(type, 4, arch=arch)
    for name, parameter in backbone.named_parameters():
        if 'qkv' in name and parameter.ndim > 1:
            # attention as flat as early in training: sharp attention turns
            # rounded features into other weights, whatever is attended to
            parameter.data.mul_(0.5)
    return backbone, images, share


def run(backbone, images, share):
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images)
    assert trace.output_share.dtype == torch.float32
    return trace


@pytest.mark.parametrize(
    'type, dtype',
    [
        ('VisionTransformer', torch.bfloat16),
        pytest.param('VisionTransformer', torch.float16, marks=pytest.mark.slow),
        pytest.param('SwinTransformer', torch.bfloat16, marks=pytest.mark.slow),
        pytest.param('SwinTransformerV2', torch.float16, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_shares_stay_near_and_constants_stay(type, dtype):
    backbone, images, share = make(type)
    constant = torch.full_like(share, 0.3)
    expected = run(backbone, images, share)
    assert_equals_oracle(expected, backbone, images, share, atol=1e-5)
    with torch.autocast('cpu', dtype):
        found = [(run(backbone, images, share), run(backbone, images, constant))]
    if type == 'VisionTransformer':
        # a ViT only: the stock Swin adds a float32 mask, which half precision
        # weights then refuse
        for half, full in zip(found[0][0].block_shares, expected.block_shares):
            assert (half - full).abs().max() <= 5e-3
        backbone, images = backbone.to(dtype), images.to(dtype)
        found.append((run(backbone, images, share), run(backbone, images, constant)))
    for trace, still in found:
        assert 0 < (trace.output_share - expected.output_share).abs().max() <= 5e-3
        for moved in (still.output_share, *still.block_shares):
            assert (moved - 0.3).abs().max() <= 1e-5
