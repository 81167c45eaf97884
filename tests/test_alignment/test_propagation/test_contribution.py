"""Shares by contribution, block by block, against explicit decompositions."""

import copy
from functools import partial

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from mmtlalign.alignment.propagation import build_propagation
from mmtlalign.alignment.sites import Parts
from tests.oracles import contribution
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_same
from tests.test_alignment.contract import assert_checkpointing, assert_limits, assert_stock
from tests.test_alignment.test_trace_memory import bytes_kept

MEASURES = ['projection', 'norm']
NO_BIAS = dict(block_cfgs=dict(attn_cfgs=dict(qkv_bias=False)))
PADDED = dict(pad_small_map=True, stage_cfgs=NO_BIAS)


swin_v2 = partial(toys.swin, 'SwinTransformerV2')
# name -> how to make it; of those that are padded, 26 x 18 pixels in 13 x 9 tokens
BACKBONES = {
    'vit': toys.vit,
    'vit without class token': partial(toys.vit, with_cls_token=False, out_type='avg_featmap'),
    'vit with layer scale': partial(toys.vit, layer_scale_init_value=0.5, qkv_bias=False),
    'deit3': partial(toys.vit, 'DeiT3'),
    'distilled': partial(toys.vit, 'DistilledVisionTransformer'),
    'lvvit': toys.lvvit,
    'swin': toys.swin,
    'swin padded': partial(toys.swin, **PADDED),
    'swin v2': swin_v2,
    'swin v2 padded': partial(swin_v2, **PADDED),
    'timm vit': toys.timm_vit,
    'timm vit, eager': partial(toys.timm_vit, fused=False, qk_norm=True, init_values=0.5),
    'timm swin': toys.timm_swin,
    'timm swin padded': partial(toys.timm_swin, img_size=(26, 18), always_partition=True),
    'torchvision vit': toys.torchvision_vit,
    'beit': partial(toys.vit, 'BEiTViT'),
    'beit with bias': partial(toys.vit, 'BEiTViT', bias=True, layer_scale_init_value=0.0),
    'beit without bias': partial(toys.vit, 'BEiTViT', bias=False, use_rel_pos_bias=False),
}
SOME = ['deit3', 'swin', 'swin v2', 'timm vit, eager', 'torchvision vit']
MORE = ['swin v2 padded', 'lvvit', 'timm vit', 'timm swin', 'beit']
all_measures = pytest.mark.parametrize('measure', MEASURES)


def make(name, **cfg):
    backbone = BACKBONES[name](**cfg)
    backbone.eval()
    if 'padded' in name:
        return backbone, toys.images(size=(26, 18)), toys.shares(grid=(13, 9))
    return backbone, toys.images(), toys.shares(grid=8 if 'swin' in name else 4)


def tracer(backbone, measure='projection', **kwargs):
    return LabelTrace(backbone, propagation=dict(type='contribution', measure=measure), **kwargs)


@pytest.mark.parametrize('name', BACKBONES)
def test_every_block(name):
    backbone, images, share = make(name)
    with torch.no_grad():
        steps = contribution.steps(copy.deepcopy(backbone).double(), images.double())
    for measure in MEASURES:
        trace = tracer(backbone, measure, record=True)
        with trace(share), torch.no_grad():
            backbone(images)
            moves = [
                (before.share, site.share)
                for before, site in zip(trace.family.sites, trace.family.sites[1:])
                if site.in_block
            ]
        for (before, after), step in zip(moves, steps, strict=True):
            expected = step(before.double(), measure)
            assert (after - expected).abs().max() < 1e-6
            assert (expected - before).abs().max() > 1e-3
        assert all(torch.equal(a, b) for a, (_, b) in zip(trace.block_shares, moves))
        # the head's tokens alone, where nothing else is asked for
        last = tracer(backbone, measure)
        with last(share), torch.no_grad():
            backbone(images)
        assert_same(last.output_share, trace.output_share, 1e-6)


@pytest.mark.slow
@all_measures
@pytest.mark.parametrize(
    'name', [*SOME, 'swin v2 padded', 'lvvit', 'timm vit', 'timm swin', 'beit']
)
def test_limits_and_stock_features(name, measure):
    backbone, images, share = make(name)
    propagation = dict(type='contribution', measure=measure)
    if measure == 'projection':  # features know no measure
        assert_stock(tracer(backbone), images, share, exact=name == 'beit')
    assert_limits(backbone, images, share, near=1e-2, propagation=propagation)


@pytest.mark.parametrize('name', ['deit3', 'lvvit', 'swin', 'swin v2', 'timm vit', 'timm swin'])
def test_random_depth_and_output_dropout_move_no_share_in_the_first_block(name):
    # what follows it is given other features
    backbone, images, share = make(name, drop_path_rate=0.9)
    for part, module in backbone.named_modules():
        if hasattr(module, 'drop_prob'):
            module.drop_prob = 0.9
        if part.endswith('proj_drop'):
            module.p = 0.5
    found = []
    for training in (True, False):
        backbone.train(training)
        for module in backbone.modules():  # the stem of LV-ViT
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        trace = tracer(backbone, record=True)
        with trace(share), torch.no_grad():
            backbone(images)
        found.append(trace.block_shares[0])
    assert_same(*found, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, modules',
    [
        ('deit3', ['layers.0', 'layers.1.attn', 'layers.2']),
        ('swin v2', ['stages.0.blocks.1', 'stages.1.blocks.0']),
        ('timm vit, eager', ['blocks.0', 'blocks.2']),
        ('timm swin', ['layers.0.blocks.1', 'layers.1']),
        ('torchvision vit', ['encoder.layers.encoder_layer_0', 'encoder.layers.encoder_layer_2']),
    ],
)
def test_checkpointing(name, modules, run_checkpoint):
    assert_checkpointing(*make(name), modules, propagation='contribution')


@pytest.mark.parametrize('name', SOME)
def test_nothing_more_is_kept_for_the_backward(name):
    backbone, images, share = make(name)
    size = images.shape[2:]
    stock = bytes_kept(backbone, size)
    assert stock > 1e5
    assert bytes_kept(backbone, size, tracer(backbone)(share)) <= 1.02 * stock


@all_measures
def test_a_token_of_zeros_keeps_its_share(measure):
    generator = torch.Generator().manual_seed(0)
    output, own = torch.randn(2, 3, 4, 8, generator=generator)
    output[0, 1] = own[0, 1] = 0
    output[1, 2] = own[1, 2] = 1e-30  # its square is 0
    share = torch.rand(3, 4, generator=generator)
    moved = build_propagation(dict(type='contribution', measure=measure))(
        share, share, Parts(output, own, share.mean(1, keepdim=True))
    )
    assert moved[0, 1] == share[0, 1]
    assert moved.isfinite().all() and (0 <= moved).all() and (moved <= 1).all()


def test_unknown_measure():
    with pytest.raises(ValueError, match="measure='angle' must be one of"):
        build_propagation(dict(type='contribution', measure='angle'))
