"""Shares through T2T-ViT, against a dense oracle."""

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.oracles.t2t_vit import dense_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

from .refusals import assert_refuses_attention_dropout, assert_refuses_other_modules


def t2t(layer_cfgs=None, **cfg):
    """Two layers after the tokens-to-token module; weights of attention are
    small, as the host multiplies scores by the root of a head's width."""
    cfg = dict(img_size=32, embed_dims=24, num_layers=2, t2t_cfg=dict(token_dims=8)) | cfg
    backbone = toys.build('T2T_ViT', layer_cfgs=dict(num_heads=2, **(layer_cfgs or {})), **cfg)
    for name, parameter in backbone.named_parameters():
        if 'qkv.weight' in name:
            parameter.data *= 0.4
    return backbone


def follow(backbone, size):
    grid = tuple((side - 3) // 4 + 1 for side in size)
    assert_family(backbone, toys.images(size=size), toys.shares(grid=grid), dense_labels)


@pytest.mark.parametrize(
    'size',
    [
        (32, 32),
        (32, 48),
        (28, 36),  # 7 x 9 tokens, then 4 x 5: odd, so that cells are padded
        (27, 38),  # not even whole patches
    ],
    ids=str,
)
def test_sizes(size):
    follow(t2t(), size)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(out_indices=0),
        dict(out_indices=[0, 1]),
        dict(out_type='raw'),
        dict(out_type='featmap'),
        dict(out_type='avg_featmap'),
        dict(out_type='raw', with_cls_token=False),
        dict(out_type='avg_featmap', with_cls_token=False),
        dict(final_norm=False),
        dict(layer_cfgs=dict(qkv_bias=True)),
        dict(layer_cfgs=dict(qk_scale=0.3)),  # which the host ignores
    ],
    ids=str,
)
def test_options(cfg):
    follow(t2t(**cfg), (32, 40))


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        t2t(),
        toys.images(size=32),
        toys.shares(grid=8),
        ['tokens_to_token.attention1', 'encoder.0'],
        run_checkpoint,
    )


def test_compiles():
    assert_compiles(t2t(num_layers=1), toys.images(size=(32, 40)), toys.shares(grid=(8, 10)))


def test_refuses_attention_dropout():
    assert_refuses_attention_dropout(t2t(layer_cfgs=dict(attn_drop_rate=0.3)), r'encoder\.0\.attn')


def test_refuses_an_output_that_is_never_given():
    with pytest.raises(ValueError, match='asks for 2, but'):
        LabelTrace(t2t(out_indices=2))


def test_refuses_other_modules():
    assert_refuses_other_modules(
        t2t(),
        [
            'tokens_to_token.attention1',
            'tokens_to_token.attention2.attn',
            'encoder.1',
            'encoder.1.attn',
        ],
    )


@pytest.mark.parametrize('watch', ['class', 'patches'])
def test_attention_to_patches(watch):
    backbone = t2t()
    trace = LabelTrace(backbone, watch=watch)
    with trace(toys.shares(grid=8)):
        backbone(toys.images(size=32))
    assert trace.attention.shape == (2, 4)
    assert ((trace.attention > 0) & (trace.attention < 1)).all()
    assert (trace.attention.sum(1) < torch.ones(2)).all()
