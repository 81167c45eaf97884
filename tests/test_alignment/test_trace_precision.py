"""Shares in half precision: twelve layers, as deep as DeiT-S and Swin-T."""

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_equals_oracle, assert_same, gradients, loss_of

DEEP = dict(
    VisionTransformer=dict(num_layers=12, embed_dims=64, num_heads=4),
    SwinTransformer=dict(depths=[6, 6]),
    SwinTransformerV2=dict(depths=[6, 6]),
)
MAKERS = dict(VisionTransformer=toys.vit, SwinTransformer=toys.swin, SwinTransformerV2=toys.swin)
GRID = dict(VisionTransformer=4, SwinTransformer=8, SwinTransformerV2=8)
HALF = [torch.bfloat16, torch.float16]


def make(type):
    backbone = MAKERS[type](type, arch=DEEP[type])
    for name, parameter in backbone.named_parameters():
        if 'qkv' in name and parameter.ndim > 1:
            # attention as flat as early in training: sharp attention turns
            # rounded features into other weights, whatever is attended to
            parameter.data.mul_(0.5)
    return backbone, toys.images(4), toys.shares(4, GRID[type])


def run(backbone, images, share):
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(images)
    assert trace.output_share.dtype == torch.float32
    return trace


@pytest.mark.parametrize('type', DEEP)
@pytest.mark.parametrize('dtype', HALF, ids=str)
def test_autocast(type, dtype):
    backbone, images, share = make(type)
    expected = run(backbone, images, share)
    assert_equals_oracle(expected, backbone, images, share, atol=1e-5)
    with torch.autocast('cpu', dtype):
        trace = run(backbone, images, share)
    error = (trace.output_share - expected.output_share).abs().max()
    assert 0 < error <= 5e-3
    if type == 'VisionTransformer':
        for half, full in zip(trace.block_shares, expected.block_shares):
            assert (half - full).abs().max() <= 5e-3


@pytest.mark.parametrize('dtype', HALF, ids=str)
def test_half_precision_throughout(dtype):
    # a ViT only: the stock Swin adds a float32 mask, which half precision
    # weights then refuse
    backbone, images, share = make('VisionTransformer')
    expected = run(backbone, images, share).output_share
    trace = run(backbone.to(dtype), images.to(dtype), share)
    assert (trace.output_share - expected).abs().max() <= 5e-3


def largest_change(trace, constant):
    return max(
        (moved - constant).abs().max() for moved in [trace.output_share, *trace.block_shares]
    )


@pytest.mark.parametrize('type', DEEP)
@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('constant', [0.0, 0.3, 1.0])
def test_constant_share_stays_constant(type, dtype, constant):
    backbone, images, share = make(type)
    share.fill_(constant)
    with torch.autocast('cpu', dtype):
        assert largest_change(run(backbone, images, share), constant) <= 1e-5
        with torch.no_grad():
            trace = run(backbone, images, share)
        assert largest_change(trace, constant) <= 1e-5
    if type == 'VisionTransformer':
        trace = run(backbone.to(dtype), images.to(dtype), share)
        assert largest_change(trace, constant) <= 1e-5


@pytest.mark.parametrize('type', DEEP)
def test_features_and_gradients_equal_stock_under_autocast(type):
    backbone, images, share = make(type)
    with torch.autocast('cpu', torch.bfloat16):
        stock = backbone(images)
        loss_of([f.float() for f in stock]).backward()
        expected = gradients(backbone)
        with LabelTrace(backbone)(share):
            features = backbone(images)
        loss_of([f.float() for f in features]).backward()
    # both round to 8 bits, and twelve layers add up
    scale = max(f.abs().max() for f in stock).item()
    assert [f.dtype for f in features] == [f.dtype for f in stock]
    assert_same(features, stock, 2e-2 * scale)
    assert sum(grad.square().sum() for grad in expected.values()) > 0
    for name, grad in gradients(backbone).items():
        # by direction and length of the whole tensor, not by element
        gap = (grad - expected[name]).norm()
        assert gap <= 0.1 * expected[name].norm() + 1e-6, name
