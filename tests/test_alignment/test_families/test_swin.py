"""Shares through Swin transformers, against the dense oracle."""

import re

from tests.oracle import labels_of
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract

DEEP = dict(arch=dict(depths=[1, 2, 1], num_heads=[2, 2, 4]), pad_small_map=True, size=(26, 18))


def attention(**cfg):
    return dict(stage_cfgs=dict(block_cfgs=dict(attn_cfgs=cfg)))


def merging(**cfg):
    """10 x 13 tokens."""
    return dict(pad_small_map=True, size=(20, 26), stage_cfgs=dict(downsample_cfg=cfg))


def refused(number):
    """Mergings that are no partition, by the value at fault, and more; the first merging of a
    version stands in a stage of this ``number``."""
    mergings = [
        (dict(kernel_size=3, stride=2), '(3, 3)'),
        (dict(kernel_size=2, stride=3), '(2, 2)'),
        (dict(padding=1), '(1, 1)'),
        (dict(dilation=2), '(2, 2)'),
    ]
    where = rf'stages\.{number}\.downsample .*'
    return [
        (attention(attn_drop=0.1), r'stages\.0\.blocks\.0\.attn.* dropout 0\.1'),
        # of which the host makes nothing
        (dict(out_indices=(-1,)), r'out_indices \(-1,\).* 0 to 1'),
        *((merging(**cfg), where + re.escape(value)) for cfg, value in mergings),
    ]


class Swin(FamilyContract):
    oracle = staticmethod(labels_of)
    patch = 2
    rates = dict(drop_path_rate=0.9, drop_rate=0.5)
    watched = ()
    name = 'SwinTransformer'
    variants = [
        dict(size=32),  # windows fit: 16 x 16, then 8 x 8 tokens
        dict(),  # the last map is one window: no shift without padding
        dict(pad_small_map=True),
        dict(size=(16, 32)),  # as high as a window, but wider
        dict(size=(17, 31), use_abs_pos_embed=True),  # not even whole patches, nor windows
        dict(size=(6, 10), pad_small_map=True),  # smaller than a window
        dict(size=(2, 22), pad_small_map=True),
        DEEP | dict(out_indices=(0,)),
        DEEP | dict(out_indices=(1,)),
        DEEP | dict(out_indices=(0, 2)),
        dict(size=(18, 26), pad_small_map=True, frozen_stages=0, norm_cfg=None, window_size=2),
        dict(size=(18, 26), pad_small_map=True, window_size=8),
        dict(size=(18, 26), pad_small_map=True, **attention(qkv_bias=False)),
        merging(kernel_size=3),
        merging(kernel_size=3, padding='same'),
        merging(kernel_size=(2, 3), stride=(2, 3)),
        merging(padding=0),  # leaves the last column out
    ]
    checkpointed = ['stages.0.blocks.1.attn', 'stages.0.downsample', 'stages.1.blocks.1']
    with_cp = dict(with_cp=True)
    refused = refused(0)
    modules = ['stages.0.blocks.0', 'stages.0.blocks.1.attn', 'stages.1.blocks.1.attn.w_msa']

    def make(self, **cfg):
        cfg.pop('size', None)
        return toys.swin(self.name, **cfg)


class TestSwinV1(Swin):
    variants = [
        *Swin.variants,
        dict(size=(18, 26), pad_small_map=True, **attention(qk_scale=0.7)),
        # 13 x 9 tokens: the mean over merged tokens is not the mean before
        *(
            DEEP | dict(out_indices=out_indices, out_after_downsample=True)
            for out_indices in [(0,), (0, 1), (0, 1, 2)]
        ),
    ]


class TestSwinV2(Swin):
    name = 'SwinTransformerV2'
    checkpointed = ['stages.0.blocks.1.attn', 'stages.1']
    refused = refused(1)
    variants = [
        *Swin.variants,
        dict(size=(18, 26), pad_small_map=True, window_size=[3, 5]),
        dict(arch=dict(extra_norm_every_n_blocks=2), pretrained_window_sizes=[6, 6], size=(32, 16)),
    ]
