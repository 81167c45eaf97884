"""Shares by contribution, block by block, against explicit decompositions."""

import copy
from functools import partial

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from mmtlalign.alignment.propagation import build_propagation
from mmtlalign.alignment.sites import Parts
from mmtlalign.models import LVViT
from tests.oracles import contribution
from tests.test_alignment import timm_toys, toys
from tests.test_alignment.checks import assert_same, gradients, loss_of
from tests.test_alignment.contract import assert_checkpointing, assert_compiles
from tests.test_alignment.test_trace_memory import bytes_kept

MEASURES = ['projection', 'norm']
LVVIT = dict(
    embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=72, stem_channels=8, skip_lam=2.0
)
NO_BIAS = dict(block_cfgs=dict(attn_cfgs=dict(qkv_bias=False)))


def lvvit():
    return toys.fill(LVViT(arch=LVVIT, img_size=16, patch_size=4))


# name -> how to make it, image size, grid
BACKBONES = {
    'vit': (toys.vit, 16, 4),
    'vit without class token': (
        lambda: toys.vit(with_cls_token=False, out_type='avg_featmap'),
        16,
        4,
    ),
    'vit with layer scale': (lambda: toys.vit(layer_scale_init_value=0.5, qkv_bias=False), 16, 4),
    'deit3': (lambda: toys.vit('DeiT3'), 16, 4),
    'distilled': (lambda: toys.vit('DistilledVisionTransformer'), 16, 4),
    'lvvit': (lvvit, 16, 4),
    'swin': (toys.swin, 16, 8),
    'swin padded': (lambda: toys.swin(pad_small_map=True), (26, 18), (13, 9)),
    'swin without bias': (
        lambda: toys.swin(pad_small_map=True, stage_cfgs=NO_BIAS),
        (26, 18),
        (13, 9),
    ),
    'swin v2': (lambda: toys.swin('SwinTransformerV2'), 16, 8),
    'swin v2 padded': (
        lambda: toys.swin('SwinTransformerV2', pad_small_map=True, stage_cfgs=NO_BIAS),
        (26, 18),
        (13, 9),
    ),
    'timm vit': (timm_toys.vit, 16, 4),
    'timm vit, eager': (lambda: timm_toys.vit(fused=False, qk_norm=True, init_values=0.5), 16, 4),
    'timm distilled': (lambda: timm_toys.vit('VisionTransformerDistilled'), 16, 4),
    'timm swin': (timm_toys.swin, 16, 8),
    'timm swin padded': (
        lambda: timm_toys.swin(img_size=(26, 18), always_partition=True),
        (26, 18),
        (13, 9),
    ),
    'torchvision vit': (timm_toys.torchvision_vit, 16, 4),
}
BEITS = [
    dict(),
    dict(bias=True),
    dict(bias=False),
    dict(layer_scale_init_value=0.0),
    dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
]
BACKBONES.update({f'beit {cfg}': (partial(toys.vit, 'BEiTViT', **cfg), 16, 4) for cfg in BEITS})
SOME = [
    'deit3',
    'lvvit',
    'swin',
    'swin v2',
    'timm vit',
    'timm vit, eager',
    'timm swin',
    'torchvision vit',
]
all_measures = pytest.mark.parametrize('measure', MEASURES)
all_backbones = pytest.mark.parametrize('name', BACKBONES)
some_backbones = pytest.mark.parametrize('name', SOME)


def make(name):
    make_backbone, size, grid = BACKBONES[name]
    backbone = make_backbone()
    backbone.eval()
    return backbone, toys.images(size=size), toys.shares(grid=grid)


def tracer(backbone, measure='projection', **kwargs):
    return LabelTrace(backbone, propagation=dict(type='contribution', measure=measure), **kwargs)


@all_measures
@all_backbones
def test_every_block(name, measure):
    backbone, images, share = make(name)
    trace = tracer(backbone, measure, record=True)
    with trace(share), torch.no_grad():
        backbone(images)
        moves = [
            (before.share, site.share)
            for before, site in zip(trace.family.sites, trace.family.sites[1:])
            if site.in_block
        ]
    with torch.no_grad():
        steps = contribution.steps(copy.deepcopy(backbone).double(), images.double())
        for (before, after), step in zip(moves, steps, strict=True):
            expected = step(before.double(), measure)
            assert (after - expected).abs().max() < 1e-6
            assert (expected - before).abs().max() > 1e-3
    kept = trace.block_shares
    assert all(torch.equal(a, b) for a, (_, b) in zip(kept, moves))
    # the head's tokens alone, where nothing else is asked for
    last = tracer(backbone, measure)
    with last(share), torch.no_grad():
        backbone(images)
    assert_same(last.output_share, trace.output_share, 1e-6)


@all_measures
@all_backbones
def test_constants_and_complements(name, measure):
    backbone, images, share = make(name)
    trace = tracer(backbone, measure, record=True)

    def moved(token_share, dtype=None):
        with (
            torch.no_grad(),
            torch.autocast('cpu', dtype, enabled=dtype is not None),
            trace(token_share),
        ):
            backbone(images)
        return trace.block_shares

    for dtype in (None, torch.bfloat16):
        for constant in (0.0, 0.3, 1.0):
            for found in moved(torch.full_like(share, constant), dtype):
                assert (found - constant).abs().max() < 2e-6
    for own, partner in zip(moved(share), moved(1 - share)):
        inside = (own > 0) & (own < 1) & (partner > 0) & (partner < 1)
        assert inside.float().mean() > 0.5
        assert (own + partner - 1)[inside].abs().max() < 2e-6


@all_backbones
def test_features_and_gradients_equal_stock(name):
    backbone, images, share = make(name)
    stock = backbone(images)
    loss_of(stock).backward()
    expected = gradients(backbone)
    trace = tracer(backbone)
    with trace(share):
        features = backbone(images)
    loss_of(features).backward()
    assert_same(features, stock)
    assert not name.startswith('beit') or torch.equal(features[0], stock[0])
    assert_same(gradients(backbone), expected)
    twin = copy.deepcopy(trace)
    with twin(share):
        twin.backbone(images)
    assert_same(twin.output_share, trace.output_share, 1e-6)


@pytest.mark.parametrize(
    'make_backbone, grid',
    [
        (lambda **cfg: toys.vit(**cfg), 4),
        (lambda **cfg: toys.vit('DeiT3', **cfg), 4),
        (lambda **cfg: toys.fill(LVViT(LVVIT, 16, 4, **cfg)), 4),
        (lambda **cfg: toys.swin(**cfg), 8),
        (lambda **cfg: toys.swin('SwinTransformerV2', **cfg), 8),
        (lambda **cfg: timm_toys.vit(**cfg), 4),
        (lambda **cfg: timm_toys.swin(**cfg), 8),
    ],
)
def test_random_depth_moves_no_share_in_the_first_block(make_backbone, grid):
    # what follows it is given other features
    images, share = toys.images(8), toys.shares(8, grid)
    found = []
    for training in (True, False):
        backbone = make_backbone(drop_path_rate=0.9)
        for module in backbone.modules():
            if hasattr(module, 'drop_prob'):
                module.drop_prob = 0.9
        backbone.train(training)
        for module in backbone.modules():  # the stem of LV-ViT
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        trace = tracer(backbone, record=True)
        with trace(share), torch.no_grad():
            backbone(images)
        found.append(trace.block_shares[0])
    assert_same(*found, atol=1e-6)


def test_output_dropout_moves_no_share():
    images, share = toys.images(), toys.shares()
    found = []
    for training in (True, False):
        backbone = toys.vit()
        backbone.layers[0].attn.proj_drop.p = 0.5
        backbone.train(training)
        trace = tracer(backbone, record=True)
        with trace(share), torch.no_grad():
            backbone(images)
        found.append(trace.block_shares[0])
    assert torch.equal(*found)


@pytest.mark.parametrize(
    'name, modules',
    [
        ('deit3', ['layers.0', 'layers.1.attn', 'layers.2']),
        ('swin', ['stages.0.blocks.0', 'stages.0.blocks.1.attn', 'stages.1.blocks.1']),
        ('swin v2', ['stages.0.blocks.1', 'stages.1.blocks.0']),
        ('timm vit', ['blocks.0', 'blocks.2']),
        ('timm vit, eager', ['blocks.0', 'blocks.2']),
        ('timm swin', ['layers.0.blocks.1', 'layers.1']),
        ('torchvision vit', ['encoder.layers.encoder_layer_0', 'encoder.layers.encoder_layer_2']),
    ],
)
def test_checkpointing(name, modules, run_checkpoint):
    assert_checkpointing(*make(name), modules, run_checkpoint, 'contribution')


@pytest.mark.parametrize(
    'make_backbone, grid',
    [
        (lambda: toys.vit('DeiT3', arch=dict(num_layers=2)), 4),
        (lambda: toys.swin(arch=dict(depths=[2, 1])), 8),
        (lambda: timm_toys.vit(depth=2), 4),
    ],
    ids=['deit3', 'swin', 'timm vit'],
)
def test_compiles(make_backbone, grid):
    assert_compiles(make_backbone(), toys.images(), toys.shares(grid=grid), 'contribution')


@some_backbones
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


def test_refused_where_vectors_cannot_be_compared():
    backbone = timm_toys.vit(scale_attn_norm=True)
    with pytest.raises(
        ValueError,
        match="'contribution' needs projection, residual, values where VisionTransformer",
    ) as error:
        LabelTrace(backbone, propagation='contribution')
    assert '\n' not in str(error.value)
    LabelTrace(backbone)  # the shares alone can be followed
