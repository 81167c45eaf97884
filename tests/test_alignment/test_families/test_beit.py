"""Shares through BEiT, by both propagations, against float64."""

import copy
from functools import partial

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.oracles import contribution
from tests.oracles.beit import beit_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

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
        patches = share.flatten(1)
        first = torch.cat([patches.mean(1, keepdim=True), patches], 1)
        steps = contribution.steps(backbone, images)
        expected = [
            step(before, 'projection') for step, before in zip(steps, [first, *trace.block_shares])
        ]
    for actual, block in zip(trace.block_shares, expected, strict=True):
        assert (actual - block).abs().max() < 1e-5


@pytest.mark.parametrize('measure', ['projection', 'norm'])
def test_contribution_is_another_rule_and_survives_half_precision(measure):
    backbone, images, share = beit(), toys.images(), toys.shares()
    trace = LabelTrace(backbone, propagation=dict(type='contribution', measure=measure))
    plain = LabelTrace(backbone)
    with plain(share):
        backbone(images)
    found = []
    for half in (False, True):
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=half), trace(share):
            backbone(images)
        found.append(trace.output_share)
    assert (plain.output_share - found[0]).abs().max() > 1e-3
    assert (found[1] - found[0]).abs().max() < 5e-3


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
    assert_compiles(beit(arch=dict(num_layers=2)), toys.images(), toys.shares())


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
