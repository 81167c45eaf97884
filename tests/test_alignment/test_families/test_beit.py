"""Shares through BEiT, by both propagations, against float64."""

import copy
from functools import partial

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.oracles.beit import beit_contributions, beit_labels
from tests.test_alignment import toys
from tests.test_alignment.family_contract import (
    assert_checkpointing,
    assert_compiles,
    assert_family,
)

beit = partial(toys.vit, 'BEiTViT')
follow = partial(assert_family, oracle=beit_labels)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(),
        dict(out_type='cls_token'),
        dict(out_type='featmap', out_indices=[0, 2]),
        dict(out_type='raw', out_indices=[1]),
        dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        dict(use_rel_pos_bias=False, use_abs_pos_emb=True, bias=True),
        dict(use_rel_pos_bias=False, with_cls_token=False, bias=False),
        dict(use_rel_pos_bias=False, with_cls_token=False, out_type='raw'),
        dict(layer_scale_init_value=0.0, final_norm=True),
        dict(layer_cfgs=dict(attn_cfg=dict(qk_scale=0.7))),
    ],
    ids=str,
)
def test_contract(cfg):
    follow(beit(**cfg), toys.images(), toys.shares())


def test_image_that_is_not_square():
    follow(beit(img_size=(12, 24)), toys.images(size=(12, 24)), toys.shares(grid=(3, 6)))


def test_image_of_another_size_than_the_backbone_was_built_for():
    backbone = beit(use_rel_pos_bias=False, use_abs_pos_emb=True)
    follow(backbone, toys.images(size=(18, 27)), toys.shares(grid=(5, 7)))


@pytest.mark.parametrize('propagation', ['tlalign', 'contribution'])
def test_random_depth_and_dropout_move_no_share(propagation):
    backbone = beit(drop_path_rate=0.9, drop_rate=0.5)
    backbone.train()
    images, share = toys.images(8), toys.shares(8)
    trace = LabelTrace(backbone, record=True, propagation=propagation)
    state = torch.get_rng_state()
    with trace(share):
        backbone(images)
    torch.set_rng_state(state)  # the oracle repeats the draws
    if propagation == 'tlalign':
        own = torch.tensor([[1.0, 0.0]]).expand(8, -1)
        blocks, _ = beit_labels(backbone, images, toys.to_labels(share, own, 1 - own).float())
        expected = [labels[..., 0] for labels in blocks]
    else:
        expected = beit_contributions(backbone, images, incoming_of(trace, share), 'projection')
    for actual, block in zip(trace.block_shares, expected, strict=True):
        assert (actual - block).abs().max() < 1e-5


def incoming_of(trace, share):
    """Shares before each block."""
    patches = share.flatten(1)
    first = torch.cat([patches.mean(1, keepdim=True), patches], 1)
    return [first, *trace.block_shares[:-1]]


CONTRIBUTIONS = [
    dict(),
    dict(bias=True),
    dict(bias=False),
    dict(layer_scale_init_value=0.0),
    dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
]


@pytest.mark.parametrize('measure', ['projection', 'norm'])
@pytest.mark.parametrize('cfg', CONTRIBUTIONS, ids=str)
def test_contribution_equals_an_explicit_decomposition(cfg, measure):
    backbone, images, share = beit(**cfg), toys.images(), toys.shares()
    stock = backbone(images)
    propagation = dict(type='contribution', measure=measure)
    trace = LabelTrace(backbone, record=True, propagation=propagation)
    with trace(share):
        features = backbone(images)
    assert torch.equal(features[0], stock[0])
    incoming = [s.double() for s in incoming_of(trace, share)]
    with torch.no_grad():
        expected = beit_contributions(
            copy.deepcopy(backbone).double(), images.double(), incoming, measure
        )
    for actual, block in zip(trace.block_shares, expected, strict=True):
        assert (actual - block).abs().max() < 1e-6
    # and it is another rule than half and half
    plain = LabelTrace(backbone)
    with plain(share):
        backbone(images)
    assert (plain.output_share - trace.output_share).abs().max() > 1e-3


@pytest.mark.parametrize('measure', ['projection', 'norm'])
def test_contribution_keeps_constants_and_complements(measure):
    backbone, images, share = beit(), toys.images(), toys.shares()
    trace = LabelTrace(backbone, propagation=dict(type='contribution', measure=measure))

    def moved(token_share, dtype=torch.float32):
        with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
            with trace(token_share):
                backbone(images)
        return trace.output_share

    for dtype in (torch.float32, torch.bfloat16):
        constant = moved(torch.full_like(share, 0.3), dtype)
        assert (constant - 0.3).abs().max() < 2e-6
    assert (moved(share) + moved(1 - share) - 1).abs().max() < 2e-6
    assert (moved(share, torch.bfloat16) - moved(share)).abs().max() < 5e-3


@pytest.mark.parametrize('propagation', ['tlalign', 'contribution'])
def test_contribution_of_a_copy(propagation):
    backbone, images, share = beit(), toys.images(), toys.shares()
    trace = LabelTrace(backbone, propagation=propagation)
    twin = copy.deepcopy(trace)
    with trace(share), twin(share):
        backbone(images)
        twin.backbone(images)
    assert torch.equal(twin.output_share, trace.output_share)


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        beit(), toys.images(), toys.shares(), ['layers.0', 'layers.2'], run_checkpoint
    )


def test_compilation():
    assert_compiles(beit(), toys.images(), toys.shares())


def test_what_is_watched():
    backbone, images = beit(), toys.images()
    trace = LabelTrace(backbone, watch='class')
    with trace(toys.shares()):
        backbone(images)
    assert trace.attention.shape == (2, 16)
    assert (trace.attention > 0).all() and (trace.attention.sum(1) < 1).all()


def test_attention_dropout_is_refused():
    # the host hands its own `attn_drop_rate` on under a name that is ignored
    backbone = beit(layer_cfgs=dict(attn_cfg=dict(attn_drop_rate=0.1)))
    with pytest.raises(ValueError, match=r'layers\.0\.attn .*dropout 0\.1'):
        LabelTrace(backbone)


def test_output_that_the_host_never_gives_is_refused():
    with pytest.raises(ValueError, match='asks for 3, but'):
        LabelTrace(beit(out_indices=[3]))
