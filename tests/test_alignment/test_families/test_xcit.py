"""Shares through XCiT, against float64."""

from functools import partial

import pytest

from mmtlalign.alignment import LabelTrace
from tests.oracles.xcit import xcit_labels
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_same
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

follow = partial(assert_family, oracle=xcit_labels)


def xcit(**cfg):
    """Two blocks of either kind, 32 channels, patches of 8 pixels."""
    cfg = dict(img_size=32, patch_size=8, embed_dims=32, depth=2, num_heads=2, init_cfg=None) | cfg
    return toys.build('XCiT', **cfg)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(),
        dict(out_type='raw', tokens_norm=True),
        dict(out_indices=(2,)),
        dict(out_indices=[-1, 2], use_pos_embed=False),
        dict(cls_attn_layers=1, qkv_bias=False),
        dict(cls_attn_layers=3, layer_scale_init_value=0.1),
    ],
    ids=str,
)
def test_contract(cfg):
    follow(xcit(**cfg), toys.images(size=32), toys.shares())


def test_larger_patches_and_an_image_that_is_not_square():
    backbone = xcit(patch_size=16)
    backbone.eval()
    follow(backbone, toys.images(size=(40, 64)), toys.shares(grid=(3, 4)))


@pytest.mark.parametrize('out_type', ['featmap', 'avg_featmap'])
def test_patches_keep_what_they_had(out_type):
    backbone, share = xcit(out_type=out_type), toys.shares()
    trace = LabelTrace(backbone, record=True)
    with trace(share):
        backbone(toys.images(size=32))
    for block_share in trace.block_shares:
        assert_same(block_share[:, 1:], share.flatten(1), 0)
    assert_same(trace.output_share, share.mean((1, 2)), 1e-6)


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        xcit(),
        toys.images(size=32),
        toys.shares(),
        ['xca_layers.1', 'ca_layers.0', 'ca_layers.1'],
        run_checkpoint,
    )


def test_compilation():
    assert_compiles(xcit(depth=1, cls_attn_layers=1), toys.images(size=32), toys.shares())


def test_attention_dropout_is_refused():
    with pytest.raises(ValueError, match=r'ca_layers\.0\.attn .*dropout 0\.1'):
        LabelTrace(xcit(attn_drop_rate=0.1))


def test_output_before_class_attention_is_refused():
    with pytest.raises(ValueError, match=r'\(0, 1\) ends before .*block 2'):
        LabelTrace(xcit(out_type='featmap', out_indices=(0, 1)))


@pytest.mark.parametrize('watch', ['class', 'patches'])
def test_watching_is_refused(watch):
    # patches do not attend at all
    with pytest.raises(ValueError, match=f"watch='{watch}' .*XCiT"):
        LabelTrace(xcit(), watch=watch)
