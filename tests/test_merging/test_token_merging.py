"""Merging tokens, with and without shares, against a float64 oracle."""

import copy

import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing

import mmtlalign
from mmtlalign.alignment import LabelTrace
from mmtlalign.merging import TokenKeeping, TokenMerging
from mmtlalign.models.backbones import LVViT
from tests.oracles.token_merging import attended_tokens, merging_vit, similar_tokens
from tests.test_alignment import toys
from tests.test_alignment.checks import (
    assert_moved,
    assert_same,
    assert_untouched,
    gradients,
    leaves,
    loss_of,
    snapshot,
)

IMAGES, SHARES = toys.images(size=20), toys.shares(grid=5)


def vit(type='VisionTransformer', **cfg):
    """25 patches: an even or odd number of tokens, as extra ones come."""
    if type == 'LVViT':
        arch = {**toys.VIT, 'stem_channels': 8, 'skip_lam': 2.0}
        cfg = {'img_size': 20, 'patch_size': 4, 'qkv_bias': True, **cfg}
        backbone = toys.fill(LVViT(arch=arch, **cfg))
    else:
        backbone = toys.vit(type, img_size=20, **cfg)
    backbone.eval()
    return backbone


def assert_follows(backbone, merging, choose, propagation='tlalign', proportional=True):
    """Features with and without a trace, and shares, equal the oracle's."""
    before = snapshot(backbone)
    keys = list(backbone.state_dict())
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
        trace = LabelTrace(backbone, record=record, propagation=propagation, token_merging=merging)
        with trace(SHARES):
            traced = backbone(IMAGES)
        assert_same(leaves(traced), leaves(plain), 3e-6)
        assert_moved(trace.output_share, aligned, own, partner, 2e-6)
        if record:
            for share, labels in zip(trace.block_shares, blocks, strict=True):
                assert share.shape == labels.shape[:2]
                assert_moved(share, labels, own, partner, 2e-6)
            assert_same(trace.read(trace.block_shares[-1]), trace.output_share, 0)
    with trace(torch.full_like(SHARES, 0.3)):
        backbone(IMAGES)
    assert (trace.output_share - 0.3).abs().max() < 2e-6
    assert_untouched(backbone, before)
    assert list(backbone.state_dict()) == keys
    return sizes


@pytest.mark.parametrize('propagation', ['tlalign', 'contribution'])
@pytest.mark.parametrize('proportional', [True, False])
@pytest.mark.parametrize('r', [1, 4, 8, [3, 0, 2], [0, 30, 5]], ids=str)
def test_merging_follows_the_oracle(r, proportional, propagation):
    backbone = vit()
    merging = TokenMerging(backbone, r, proportional)
    amounts = [r] * 3 if isinstance(r, int) else r
    sizes = assert_follows(backbone, merging, similar_tokens(amounts, 1), propagation, proportional)
    assert_same(merging.sizes[sizes.size(1)].double(), sizes, 0)
    assert sizes.max() > 1


@pytest.mark.parametrize(
    'type, cfg',
    [
        ('VisionTransformer', dict(out_type='avg_featmap')),
        ('VisionTransformer', dict(out_type='avg_featmap', with_cls_token=False)),
        ('DeiT3', dict()),
        ('DistilledVisionTransformer', dict()),
        ('DistilledVisionTransformer', dict(out_type='avg_featmap')),
        ('LVViT', dict()),
    ],
    ids=str,
)
@pytest.mark.parametrize('propagation', ['tlalign', 'contribution'])
def test_every_kind_of_backbone(type, cfg, propagation):
    backbone = vit(type, **cfg)
    choose = similar_tokens([5] * 3, backbone.num_extra_tokens)
    assert_follows(backbone, TokenMerging(backbone, 5), choose, propagation)


@pytest.mark.parametrize('type', ['VisionTransformer', 'DistilledVisionTransformer'])
@pytest.mark.parametrize('propagation', ['tlalign', 'contribution'])
@pytest.mark.parametrize('keep_rate', [0.1, 0.6])
def test_keeping_follows_the_oracle(keep_rate, propagation, type):
    backbone = vit(type)
    choose = attended_tokens(keep_rate, (0, 2), backbone.num_extra_tokens)
    assert_follows(
        backbone, TokenKeeping(backbone, keep_rate, (0, 2)), choose, propagation, proportional=False
    )


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


def test_at_most_half_of_the_patches_merge():
    backbone = vit()
    merging = TokenMerging(backbone, 100)
    with merging:
        backbone(IMAGES)
    assert list(merging.sizes) == [26, 14, 8, 5]
    for size in merging.sizes.values():
        assert_same(size.sum(1), torch.full((2,), 26.0))
        assert (size[:, 0] == 1).all()


@pytest.mark.parametrize('propagation', ['tlalign', 'contribution'])
@pytest.mark.parametrize(
    'make', [lambda b: TokenMerging(b, 5), lambda b: TokenKeeping(b, 0.5, (0, 1))]
)
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
    with merging:
        assert_same(compiled(IMAGES), expected)
    with trace(SHARES):
        assert_same(compiled(IMAGES), expected)
    assert_same(trace.output_share, share, 1e-6)
    assert_same(compiled(IMAGES), stock)
    torch._dynamo.reset()


def test_half_precision():
    backbone = vit()
    trace = LabelTrace(backbone, token_merging=TokenMerging(backbone, 5))
    with trace(torch.full_like(SHARES, 0.3)):
        with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
            backbone(IMAGES)
    assert trace.output_share.dtype == torch.float32
    assert (trace.output_share - 0.3).abs().max() < 2e-6


def test_copies_follow_the_copied_backbone():
    backbone = vit()
    trace = LabelTrace(backbone, token_merging=TokenMerging(backbone, 5))
    with trace(SHARES):
        backbone(IMAGES)
    expected = trace.output_share
    twin = copy.deepcopy(trace)
    assert twin.token_merging.backbone is twin.backbone
    assert twin.backbone is not backbone
    with twin(SHARES):
        twin.backbone(IMAGES)
    assert_same(twin.output_share, expected, 0)


def test_nothing_is_left_behind_after_an_error():
    backbone = vit()
    before = snapshot(backbone)
    merging = TokenMerging(backbone, 5)
    trace = LabelTrace(backbone, token_merging=merging)
    for holder in (merging, trace(SHARES)):
        with pytest.raises(RuntimeError):
            with holder:
                backbone(torch.zeros(2, 4, 20, 20))
        assert_untouched(backbone, before)


def test_one_holder_at_a_time():
    backbone = vit()
    merging = TokenMerging(backbone, 5)
    trace = LabelTrace(backbone)
    before = snapshot(backbone)
    for outer, inner in (
        (merging, merging),
        (trace, merging),
        (merging, trace),
        (merging, TokenKeeping(backbone, 0.5, (0,))),
        (merging, LabelTrace(backbone, token_merging=merging)(SHARES)),
    ):
        trace(SHARES)
        with outer:
            with pytest.raises(RuntimeError, match='token_merging='):
                with inner:
                    raise AssertionError('never entered')
        assert_untouched(backbone, before)


@pytest.mark.parametrize('r', [-1, 1.5, True, [1, 2], [1, 2, -3], '13'])
def test_wrong_numbers_are_refused(r):
    with pytest.raises(ValueError, match='3 of them, one for each block'):
        TokenMerging(vit(), r)


@pytest.mark.parametrize(
    'keep_rate, blocks', [(0, (0,)), (1.1, (0,)), (float('nan'), (0,)), (0.7, (3,)), (0.7, (-1,))]
)
def test_wrong_rates_and_blocks_are_refused(keep_rate, blocks):
    with pytest.raises(ValueError, match='in 0 to 2'):
        TokenKeeping(vit(), keep_rate, blocks)


@pytest.mark.parametrize(
    'make, out_type',
    [
        (lambda b: TokenMerging(b, 5), 'featmap'),
        (lambda b: TokenMerging(b, 5), 'raw'),
        (lambda b: TokenKeeping(b, blocks=(1,)), 'avg_featmap'),
    ],
)
def test_outputs_that_need_all_patches_are_refused(make, out_type):
    with pytest.raises(ValueError, match=f"out_type='{out_type}'"):
        make(vit(out_type=out_type))


def test_other_families_are_refused():
    with pytest.raises(TypeError, match='TokenMerging of SwinTransformer'):
        TokenMerging(toys.swin(), 5)


def test_a_trace_refuses_what_merging_cannot_give():
    backbone = vit()
    with pytest.raises(ValueError, match='another backbone'):
        LabelTrace(backbone, token_merging=TokenMerging(vit(), 5))
    with pytest.raises(ValueError, match="watch='class'"):
        LabelTrace(backbone, watch='class', token_merging=TokenMerging(backbone, 5))


def test_public_names():
    assert mmtlalign.TokenMerging is TokenMerging
    assert mmtlalign.TokenKeeping is TokenKeeping
