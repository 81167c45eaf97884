"""Shares through Swin transformers, against the dense oracle."""

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_labels_follow, assert_same, gradients, loss_of

VERSIONS = ['SwinTransformer', 'SwinTransformerV2']


def follow(backbone, size, patch_size=2):
    grid = tuple(-(-side // patch_size) for side in size)
    assert_labels_follow(backbone, toys.images(size=size), toys.shares(grid=grid))


@pytest.mark.parametrize('type', VERSIONS)
@pytest.mark.parametrize(
    'size',
    [
        (32, 32),  # windows fit: 16 x 16, then 8 x 8 tokens
        (16, 16),  # the last map is one window: no shift without padding
        (16, 32),  # as high as a window, but wider
        (24, 24),  # 12 x 12, then 6 x 6: padded to whole windows
        (18, 26),  # 9 x 13: odd, so that merging is padded as well
        (17, 31),  # not even whole patches
    ],
    ids=str,
)
@pytest.mark.parametrize('pad_small_map', [True, False])
def test_sizes(type, size, pad_small_map):
    follow(toys.swin(type, pad_small_map=pad_small_map), size)


@pytest.mark.parametrize('type', VERSIONS)
@pytest.mark.parametrize('size', [(8, 8), (6, 10), (2, 22)], ids=str)
def test_maps_smaller_than_a_window(type, size):
    follow(toys.swin(type, pad_small_map=True), size)


@pytest.mark.parametrize('type', VERSIONS)
@pytest.mark.parametrize('out_indices', [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
def test_out_indices(type, out_indices):
    backbone = toys.swin(
        type,
        arch=dict(depths=[1, 2, 1], num_heads=[2, 2, 4]),
        out_indices=out_indices,
        pad_small_map=True,
    )
    follow(backbone, (26, 18))


@pytest.mark.parametrize('out_indices', [(0,), (1,), (0, 1), (0, 1, 2)])
def test_out_after_downsample(out_indices):
    # 13 x 9 tokens: the mean over merged tokens is not the mean before
    backbone = toys.swin(
        arch=dict(depths=[1, 2, 1], num_heads=[2, 2, 4]),
        out_indices=out_indices,
        out_after_downsample=True,
        pad_small_map=True,
    )
    follow(backbone, (26, 18))


@pytest.mark.parametrize('window_size', [[2, 4], [4, 3], [3, 5]], ids=str)
def test_window_size_per_stage(window_size):
    backbone = toys.swin('SwinTransformerV2', window_size=window_size, pad_small_map=True)
    follow(backbone, (18, 26))


@pytest.mark.parametrize(
    'cfg',
    [
        dict(use_abs_pos_embed=True),
        dict(frozen_stages=0),
        dict(norm_cfg=None),
        dict(stage_cfgs=dict(block_cfgs=dict(ffn_ratio=2))),
        dict(stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(qkv_bias=False)))),
        dict(window_size=2),
        dict(window_size=8),
    ],
    ids=str,
)
@pytest.mark.parametrize('type', VERSIONS)
def test_options(type, cfg):
    follow(toys.swin(type, pad_small_map=True, **cfg), (18, 26))


def test_scale_of_the_first_version():
    follow(
        toys.swin(
            pad_small_map=True, stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(qk_scale=0.7)))
        ),
        (18, 26),
    )


def test_extra_norm_and_pretrained_window_of_the_second_version():
    backbone = toys.swin(
        'SwinTransformerV2', arch=dict(extra_norm_every_n_blocks=2), pretrained_window_sizes=[6, 6]
    )
    follow(backbone, (32, 16))


@pytest.mark.parametrize('type', VERSIONS)
@pytest.mark.parametrize(
    'downsample_cfg',
    [
        dict(kernel_size=3),
        dict(kernel_size=3, padding='same'),
        dict(kernel_size=(2, 3), stride=(2, 3)),
        dict(padding=0),
    ],
    ids=str,
)
def test_merging(type, downsample_cfg):
    # 10 x 13 tokens; padding=0 leaves the last column out
    backbone = toys.swin(type, pad_small_map=True, stage_cfgs=dict(downsample_cfg=downsample_cfg))
    follow(backbone, (20, 26))


@pytest.mark.parametrize('type', VERSIONS)
@pytest.mark.parametrize('training', [True, False])
def test_features_and_gradients_equal_stock(type, training):
    backbone = toys.swin(type, out_indices=(0, 1), pad_small_map=True, drop_path_rate=0.5)
    backbone.train(training)
    inputs = toys.images(4, (18, 26)).requires_grad_()

    torch.manual_seed(1)
    stock = backbone(inputs)
    loss_of(stock).backward()
    stock_gradients = gradients(backbone)
    stock_image_gradient, inputs.grad = inputs.grad, None

    torch.manual_seed(1)
    with LabelTrace(backbone)(toys.shares(4, (9, 13))):
        traced = backbone(inputs)
    loss_of(traced).backward()
    assert_same(traced, stock)
    assert_same(gradients(backbone), stock_gradients)
    assert_same(inputs.grad, stock_image_gradient)


@pytest.mark.parametrize('type', VERSIONS)
def test_random_depth_and_dropout_move_no_share(type):
    backbone = toys.swin(type, drop_path_rate=0.9, drop_rate=0.5)
    backbone.train()
    assert_labels_follow(
        backbone, toys.images(8), toys.shares(8, 8), atol=1e-5, dtype=torch.float32
    )
