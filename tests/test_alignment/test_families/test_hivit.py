"""Shares through HiViT, against float64."""

from functools import partial

import pytest

from mmtlalign.alignment import LabelTrace
from tests.oracles.hivit import hivit_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

follow = partial(assert_family, oracle=hivit_labels)


def hivit(depths=(1, 4), img_size=32, **cfg):
    """Two stages, patches of 8 pixels with 2 x 2 inner ones.

    The last stage must be deeper than the others together: the host reads
    one list of indices for both.
    """
    arch = dict(embed_dims=32, depths=list(depths), num_heads=2)
    cfg = dict(patch_size=8, inner_patches=2, out_indices=[-1], **cfg)
    return toys.build('HiViT', arch=arch, img_size=img_size, **cfg)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(),
        dict(rpe=True, ape=False),
        dict(layer_scale_init_value=0.1, patch_norm=False),
        dict(qkv_bias=False, qk_scale=0.5),
        dict(depths=(2,)),
        dict(kernel_size=6, pad_size=1),  # the stem overlaps
    ],
    ids=str,
)
def test_contract(cfg):
    follow(hivit(**cfg), toys.images(size=32), toys.shares())


def test_three_stages():
    backbone = toys.build(
        'HiViT',
        arch=dict(embed_dims=32, depths=[1, 1, 7], num_heads=2),
        img_size=48,
        out_indices=[-1],
    )
    follow(backbone, toys.images(size=48), toys.shares(grid=3))


@pytest.mark.parametrize('cfg', [dict(ape=False), dict()], ids=str)
def test_image_that_is_not_square(cfg):
    follow(hivit(**cfg), toys.images(size=(24, 40)), toys.shares(grid=(3, 5)))


def test_checkpointing(run_checkpoint):
    # blocks 0 to 2 come before the main stage
    assert_checkpointing(
        hivit(),
        toys.images(size=32),
        toys.shares(),
        ['blocks.0', 'blocks.3', 'blocks.5'],
        run_checkpoint,
    )


def test_compilation():
    assert_compiles(hivit(), toys.images(size=32), toys.shares())


def test_attention_dropout_is_refused():
    with pytest.raises(ValueError, match=r'blocks\.3\.attn .*dropout 0\.1'):
        LabelTrace(hivit(attn_drop_rate=0.1))
