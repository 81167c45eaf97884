"""Shares through plain vision transformers, against the dense oracle."""

import pytest
import torch
from mmpretrain.models import VisionTransformer

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import (
    assert_labels_follow,
    assert_same,
    gradients,
    leaves,
    loss_of,
)

# one name per architecture; its aliases are the same dict
ARCHS = sorted(
    {id(settings): name for name, settings in VisionTransformer.arch_zoo.items()}.values()
)


@pytest.mark.parametrize('name', ARCHS)
def test_every_architecture(name):
    # two heads and two layers: the kernel sees the width of one head only
    zoo = VisionTransformer.arch_zoo[name]
    arch = dict(
        embed_dims=2 * zoo['embed_dims'] // zoo['num_heads'],
        num_layers=2,
        num_heads=2,
        feedforward_channels=32,
    )
    backbone = toys.vit(arch=arch)
    assert_labels_follow(backbone, toys.images(), toys.shares())


def test_architecture_by_its_name():
    backbone = toys.build('VisionTransformer', arch='deit-tiny', img_size=32, patch_size=8)
    assert_labels_follow(backbone, toys.images(size=32), toys.shares())


# every output the host can give: without a class token it gives no
# `cls_token`, the distilled ViT always has both tokens, and `avg_featmap` of
# DeiT3 is broken
OUTPUTS = [
    *(
        ('VisionTransformer', out_type, True)
        for out_type in ('cls_token', 'avg_featmap', 'featmap', 'raw')
    ),
    *(('VisionTransformer', out_type, False) for out_type in ('avg_featmap', 'featmap', 'raw')),
    *(('DeiT3', out_type, True) for out_type in ('cls_token', 'featmap', 'raw')),
    *(('DeiT3', out_type, False) for out_type in ('featmap', 'raw')),
    *(
        ('DistilledVisionTransformer', out_type, None)
        for out_type in ('cls_token', 'avg_featmap', 'featmap', 'raw')
    ),
]


@pytest.mark.parametrize('type, out_type, with_cls_token', OUTPUTS)
def test_what_the_head_reads(type, out_type, with_cls_token):
    cfg = dict(out_type=out_type)
    if with_cls_token is not None:
        cfg['with_cls_token'] = with_cls_token
    backbone = toys.vit(type, **cfg)
    assert_labels_follow(backbone, toys.images(3), toys.shares(3))


@pytest.mark.parametrize(
    'cfg',
    [
        dict(out_indices=0),
        dict(out_indices=-2),
        dict(out_indices=[0, 2]),
        dict(out_indices=[0, 1], out_type='featmap'),
        dict(out_indices=[0, 1], out_type='avg_featmap'),
        dict(out_indices=[2, 0], out_type='raw'),
        dict(pre_norm=True),
        dict(final_norm=False),
        dict(layer_scale_init_value=0.5),
        dict(qkv_bias=False),
        dict(frozen_stages=1),
        dict(drop_rate=0.1),
        dict(layer_cfgs=dict(ffn_type='swiglu_fused')),
        dict(patch_cfg=dict(stride=2)),
    ],
    ids=str,
)
def test_options(cfg):
    backbone = toys.vit(**cfg)
    backbone.eval()
    grid = backbone.patch_resolution
    assert_labels_follow(backbone, toys.images(), toys.shares(grid=grid))


@pytest.mark.parametrize('type', ['VisionTransformer', 'DeiT3'])
def test_layers_that_hardly_change_the_features(type):
    # the default layer scale of DeiT3, 1e-5, scales features, never shares
    backbone = toys.vit(type)
    for name, parameter in backbone.named_parameters():
        if 'gamma' in name:
            parameter.data.fill_(1e-5)
    assert_labels_follow(backbone, toys.images(), toys.shares())


@pytest.mark.parametrize('type', ['VisionTransformer', 'DistilledVisionTransformer', 'DeiT3'])
@pytest.mark.parametrize('size', [(16, 24), (28, 12), (18, 15)])
def test_other_sizes_than_the_backbone_was_built_for(type, size):
    # the last one is padded to whole patches by the host
    grid = tuple(-(-side // 4) for side in size)
    assert_labels_follow(toys.vit(type), toys.images(size=size), toys.shares(grid=grid))


@pytest.mark.parametrize('type', ['VisionTransformer', 'DeiT3'])
@pytest.mark.parametrize('training', [True, False])
def test_features_and_gradients_equal_stock(type, training):
    backbone = toys.vit(type, out_indices=[0, 2], drop_path_rate=0.5)
    backbone.train(training)
    inputs = toys.images(4).requires_grad_()

    torch.manual_seed(1)
    stock = backbone(inputs)
    loss_of(stock).backward()
    stock_gradients = gradients(backbone)
    stock_image_gradient, inputs.grad = inputs.grad, None

    torch.manual_seed(1)
    with LabelTrace(backbone)(toys.shares(4)):
        traced = backbone(inputs)
    loss_of(traced).backward()
    assert_same(traced, stock)
    assert_same(gradients(backbone), stock_gradients)
    assert_same(inputs.grad, stock_image_gradient)


def test_features_of_the_distilled_pair_equal_stock():
    backbone = toys.vit('DistilledVisionTransformer')
    stock = backbone(toys.images())
    with LabelTrace(backbone)(toys.shares()):
        traced = backbone(toys.images())
    assert len(leaves(traced)) == 2
    assert_same(traced, stock)


def test_without_gradients():
    backbone = toys.vit()
    with torch.no_grad():
        features = assert_labels_follow(backbone, toys.images(), toys.shares())
        assert_same(features, backbone(toys.images()))


def test_random_depth_and_dropout_move_no_share():
    backbone = toys.vit(drop_path_rate=0.9, drop_rate=0.5)
    backbone.train()
    assert_labels_follow(backbone, toys.images(8), toys.shares(8), atol=1e-5, dtype=torch.float32)
