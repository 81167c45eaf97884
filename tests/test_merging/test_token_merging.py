"""Merging tokens, with and without shares, against a float64 oracle."""

import copy
import math
from functools import partial

import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing

from mmtlalign.alignment import LabelTrace
from mmtlalign.merging import TokenKeeping, TokenMerging
from tests.oracles.token_merging import attended_tokens, merging_vit, similar_tokens
from tests.test_alignment import toys
from tests.test_alignment.checks import (
    assert_all_moved,
    assert_moved,
    assert_same,
    assert_untouched,
    gradients,
    leaves,
    loss_of,
    snapshot,
)
from tests.test_alignment.contract import assert_limits

IMAGES, SHARES = toys.images(size=20), toys.shares(grid=5)
# one of either kind
MAKERS = [lambda b: TokenMerging(b, 5), lambda b: TokenKeeping(b, 0.5, (0, 1))]


def vit(type='VisionTransformer', **cfg):
    """25 patches: an even or odd number of tokens, as extra ones come."""
    if type == 'LVViT':
        return toys.lvvit(img_size=20, qkv_bias=True, **cfg)
    backbone = toys.vit(type, img_size=20, **cfg)
    backbone.eval()
    return backbone


def assert_follows(merging, choose, propagation='tlalign', proportional=True):
    """Features with and without a trace, and shares, equal the oracle's, and so do sizes."""
    backbone = merging.backbone
    before = snapshot(backbone)
    own, partner = toys.class_labels(len(IMAGES))
    features, blocks, aligned, sizes = merging_vit(
        copy.deepcopy(backbone).double(),
        IMAGES.double(),
        toys.to_labels(SHARES, own, partner),
        choose,
        proportional,
        contribution=propagation != 'tlalign',
    )
    with merging:
        plain = backbone(IMAGES)
    for ours, theirs in zip(leaves(plain), leaves(features), strict=True):
        assert_same(ours.double(), theirs, 3e-6)
    for record in (True, False):
        trace = LabelTrace(backbone, record, propagation, token_merging=merging)
        with trace(SHARES):
            traced = backbone(IMAGES)
        assert_same(leaves(traced), leaves(plain), 3e-6)
        assert_moved(trace.output_share, aligned, own, partner, 2e-6)
        if record:
            assert_all_moved(trace, blocks, aligned, own, partner, 2e-6)
            assert_same(trace.read(trace.block_shares[-1]), trace.output_share, 0)
    assert_untouched(backbone, before)
    assert sizes.max() > 1
    if not choose.summed:
        assert_same(merging.sizes[sizes.size(1)].double(), sizes, 0)


@pytest.mark.parametrize(
    'r, proportional, propagation',
    [
        (1, True, 'tlalign'),
        (4, False, 'contribution'),
        (8, True, 'contribution'),
        ([3, 0, 2], False, 'tlalign'),
        ([0, 30, 5], True, 'tlalign'),
    ],
    ids=str,
)
def test_merging_follows_the_oracle(r, proportional, propagation):
    amounts = [r] * 3 if isinstance(r, int) else r
    merging = TokenMerging(vit(), r, proportional)
    assert_follows(merging, similar_tokens(amounts, 1), propagation, proportional)


@pytest.mark.slow
@pytest.mark.parametrize(
    'type, cfg, propagation',
    [
        ('VisionTransformer', dict(out_type='avg_featmap'), 'contribution'),
        ('VisionTransformer', dict(out_type='avg_featmap', with_cls_token=False), 'tlalign'),
        ('DeiT3', dict(), 'contribution'),
        ('DistilledVisionTransformer', dict(), 'contribution'),
        ('DistilledVisionTransformer', dict(out_type='avg_featmap'), 'tlalign'),
        ('LVViT', dict(), 'tlalign'),
        ('LVViT', dict(), 'contribution'),
    ],
    ids=str,
)
def test_every_kind_of_backbone(type, cfg, propagation):
    backbone = vit(type, **cfg)
    choose = similar_tokens([5] * 3, backbone.num_extra_tokens)
    assert_follows(TokenMerging(backbone, 5), choose, propagation)


@pytest.mark.parametrize(
    'type, propagation, keep_rate',
    [
        ('VisionTransformer', 'tlalign', 0.1),
        ('VisionTransformer', 'contribution', 0.6),
        ('DistilledVisionTransformer', 'contribution', 0.1),
        ('DistilledVisionTransformer', 'tlalign', 0.6),
    ],
)
def test_keeping_follows_the_oracle(keep_rate, propagation, type):
    backbone = vit(type)
    choose = attended_tokens(keep_rate, (0, 2), backbone.num_extra_tokens)
    assert_follows(TokenKeeping(backbone, keep_rate, (0, 2)), choose, propagation, False)


@pytest.mark.parametrize(
    'make', [lambda b: TokenMerging(b, 0), lambda b: TokenKeeping(b, 1.0, (0, 1))]
)
def test_merging_nothing_is_the_stock_backbone(make):
    backbone = vit()
    stock = backbone(IMAGES)
    with make(backbone):
        assert torch.equal(backbone(IMAGES)[0], stock[0])
    plain = LabelTrace(backbone)
    trace = LabelTrace(backbone, token_merging=make(backbone))
    for each in (plain, trace):
        with each(SHARES):
            backbone(IMAGES)
    assert torch.equal(plain.output_share, trace.output_share)


@pytest.mark.slow
@pytest.mark.parametrize('make, propagation', list(zip(MAKERS, ['contribution', 'tlalign'])))
def test_checkpointed_blocks_repeat_what_was_merged(make, propagation, run_checkpoint):
    images = IMAGES.clone().requires_grad_()
    backbone = vit()
    with make(backbone):
        loss_of(backbone(images)).backward()
    expected = gradients(backbone)
    turn_on_activation_checkpointing(backbone, ['layers.0', 'layers.2'])
    merging = make(backbone)
    trace = LabelTrace(backbone, propagation=propagation, token_merging=merging)
    for holder in (merging, trace):
        for inside in (True, False):
            if holder is trace:
                trace(SHARES)
            with holder:
                loss = loss_of(backbone(images))
                backbone(IMAGES * 2)  # another forward comes in between
                if inside:
                    loss.backward()
            if not inside:
                loss.backward()
            assert_same(gradients(backbone), expected)


@pytest.mark.parametrize('part', ['layers.1.attn', ''])
def test_other_checkpointing_is_refused(part):
    holder = torch.nn.Module()
    holder.backbone = vit()
    turn_on_activation_checkpointing(holder, f'backbone.{part}'.rstrip('.'))
    with pytest.raises(RuntimeError, match='checkpoint whole blocks only'):
        with TokenMerging(holder.backbone, 5):
            raise AssertionError('never entered')


@pytest.mark.slow
def test_compiled_backbones_merge_as_well():
    backbone = vit(arch=dict(num_layers=2))
    for module in backbone.modules():
        if hasattr(module, 'drop_prob'):  # numpy floats break graphs
            module.drop_prob = 0.0
    stock = backbone(IMAGES)
    merging = TokenMerging(backbone, 5)
    trace = LabelTrace(backbone, token_merging=merging)
    with trace(SHARES):
        expected = backbone(IMAGES)
    share = trace.output_share
    torch._dynamo.reset()
    compiled = torch.compile(backbone, backend='aot_eager')
    assert_same(compiled(IMAGES), stock)
    for holder in (merging, trace(SHARES)):
        with holder:
            assert_same(compiled(IMAGES), expected)
    assert_same(trace.output_share, share, 1e-6)
    assert_same(compiled(IMAGES), stock)
    torch._dynamo.reset()


@pytest.mark.parametrize('make', MAKERS)
def test_limits(make):
    # in half precision other tokens may merge
    backbone = vit()
    assert_limits(backbone, IMAGES, SHARES, near=1.0, token_merging=make(backbone))


def test_one_holder_at_a_time_and_nothing_left_behind():
    backbone = vit()
    before = snapshot(backbone)
    merging, trace = TokenMerging(backbone, 5), LabelTrace(backbone)
    both = LabelTrace(backbone, token_merging=merging)
    for outer, inner in (
        (merging, merging),
        (trace, merging),
        (merging, trace),
        (merging, TokenKeeping(backbone, 0.5, (0,))),
        (merging, both(SHARES)),
    ):
        trace(SHARES)
        with outer:
            with pytest.raises(RuntimeError, match='token_merging='):
                with inner:
                    raise AssertionError('never entered')
        assert_untouched(backbone, before)
    for holder in (merging, both(SHARES)):
        with pytest.raises(RuntimeError):
            with holder:
                backbone(torch.zeros(2, 4, 20, 20))
        assert_untouched(backbone, before)


NUMBERS, RATES = '3 of them, one for each block', 'in 0 to 2'


@pytest.mark.parametrize(
    'make, message',
    [
        *((partial(TokenMerging, r=r), NUMBERS) for r in (-1, 1.5, True, [1, 2], [1, 2, -3], '13')),
        *((partial(TokenKeeping, keep_rate=k, blocks=(0,)), RATES) for k in (0, 1.1, math.nan)),
        *((partial(TokenKeeping, blocks=blocks), RATES) for blocks in ((3,), (-1,))),
        (lambda b: LabelTrace(b, token_merging=TokenMerging(vit(), 5)), 'another backbone'),
        (lambda b: LabelTrace(b, watch='class', token_merging=TokenMerging(b, 5)), "watch='class'"),
        (lambda _: TokenMerging(vit(out_type='featmap'), 5), "out_type='featmap'"),
        (lambda _: TokenKeeping(vit(out_type='raw'), 1, (1,)), "out_type='raw'"),
        (lambda _: TokenMerging(toys.swin(), 5), 'TokenMerging of SwinTransformer'),
    ],
)
def test_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make(vit())
