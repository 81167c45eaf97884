"""Shares through EVA-02, against float64."""

from functools import partial

import pytest

from mmtlalign.alignment import LabelTrace
from tests.oracles.eva02 import eva02_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

eva02 = partial(toys.vit, 'ViTEVA02')
follow = partial(assert_family, oracle=eva02_labels)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(),
        dict(out_type='avg_featmap', sub_ln=True),
        dict(out_type='featmap', out_indices=[0, 1]),
        dict(out_type='raw', qkv_bias=False),
        dict(out_type='raw', with_cls_token=False),
        dict(layer_cfgs=dict(rope=None, qk_scale=0.5)),
    ],
    ids=str,
)
def test_contract(cfg):
    follow(eva02(**cfg), toys.images(), toys.shares())


def test_image_of_another_size_than_the_backbone_was_built_for():
    backbone, images = eva02(), toys.images(size=(12, 23))
    backbone(images)  # the host now keeps the angles of this size
    follow(backbone, images, toys.shares(grid=(3, 6)))


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        eva02(), toys.images(), toys.shares(), ['layers.0', 'layers.2'], run_checkpoint
    )


def test_compilation():
    assert_compiles(eva02(arch=dict(num_layers=2)), toys.images(), toys.shares())


def test_attention_dropout_is_refused():
    with pytest.raises(ValueError, match=r'layers\.0\.attn .*dropout 0\.1'):
        LabelTrace(eva02(attn_drop_rate=0.1))


def test_contribution_is_refused():
    with pytest.raises(ValueError, match="'contribution' needs .*ViTEVA02"):
        LabelTrace(eva02(), propagation='contribution')
