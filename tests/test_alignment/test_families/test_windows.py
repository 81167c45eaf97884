"""Shares through families with windows, against oracles of their own."""

import re

from tests.oracles import windows
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
    oracle = staticmethod(windows.swin_labels)
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


class TestTimmSwin(FamilyContract):
    oracle = staticmethod(windows.timm_swin_labels)
    patch = 2
    variants = [
        dict(),  # 8 x 8 tokens, then 4 x 4, the size of a window
        dict(always_partition=True, window_size=3),
        dict(img_size=(26, 18), size=(26, 18)),  # 13 x 9, then 7 x 5
        dict(dynamic_img_size=True, always_partition=True, size=(26, 18)),
        dict(depths=(1, 2, 1), num_heads=(2, 2, 4), window_size=2, img_size=24, size=24),
        dict(head_dim=4, qkv_bias=False),
    ]
    rates = dict(drop_path_rate=0.5, proj_drop_rate=0.2)
    watched = ()
    checkpointed = ['layers.0.blocks.1', 'layers.1']
    with_cp = dict(with_cp=True)
    modules = ['layers.0.blocks.0', 'layers.0.blocks.1.attn', 'layers.1.downsample']
    refused = [
        (dict(attn_drop_rate=0.1), 'layers.0.blocks.0.attn has attention dropout 0.1'),
        (dict(fused=True), 'layers.0.blocks.0.attn is fused, which hides its matrix'),
        (dict(global_pool='max'), "global_pool='max' weighs tokens"),
    ]

    def make(self, **cfg):
        return toys.timm_swin(**cfg)


class TestDaViT(FamilyContract):
    oracle = staticmethod(windows.davit_labels)
    size = 24
    variants = [
        dict(),  # windows fit: 6 x 6, then 3 x 3 tokens
        dict(size=(28, 32)),  # 7 x 8 tokens: merging leaves the last row out
        dict(size=(22, 39)),  # not even whole patches
        dict(size=16),  # the last map is smaller than a window
        dict(out_indices=(0,)),
        dict(out_indices=(0, 1)),
        dict(out_after_downsample=True),
        dict(pad_small_map=False, qkv_bias=False, size=(28, 40)),
        dict(stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(qk_scale=0.7)))),
        dict(stage_cfgs=dict(downsample_cfg=dict(kernel_size=3, padding=1))),
    ]
    checkpointed = ['stages.0.blocks.0', 'stages.1.blocks.1']
    rates = dict(drop_path_rate=0.5)
    watched = ()
    modules = [
        'stages.0.blocks.0',
        'stages.0.blocks.0.spatial_block',
        'stages.0.blocks.0.channel_block',
        'stages.0.blocks.0.spatial_block.attn',
        'stages.0.blocks.0.spatial_block.attn.w_msa',
        'stages.0.downsample',
    ]
    refused = [
        (
            dict(stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(attn_drop=0.3)))),
            '^stages.0.blocks.0.spatial_block.attn.w_msa has attention dropout 0.3',
        ),
        (
            dict(stage_cfgs=dict(downsample_cfg=dict(dilation=2))),
            r'stages\.0\.downsample merges with dilation \(2, 2\)',
        ),
    ]

    def make(self, **cfg):
        """Two stages of one and two blocks with windows of 3 x 3."""
        arch = dict(embed_dims=16, depths=[1, 2], num_heads=[1, 2])
        small = dict(arch=arch, window_size=3, out_indices=(1,), pad_small_map=True)
        return toys.build('DaViT', **(small | dict(drop_path_rate=0.0) | cfg))


class TestViTSAM(FamilyContract):
    oracle = staticmethod(windows.sam_labels)
    size = 20
    variants = [
        dict(size=24),  # windows fit
        dict(size=(20, 28)),  # padded on both sides
        dict(size=(22, 27)),  # not even whole patches
        dict(out_indices=[0, 1]),
        dict(out_type='featmap', out_channels=0),
        dict(out_type='avg_featmap'),
        dict(use_rel_pos=False, use_abs_pos=False, qkv_bias=False),
        dict(window_size=4, size=(24, 32)),  # padded on one side
        dict(global_attn_indexes=[0, 1, 2]),
        dict(global_attn_indexes=[]),
    ]
    checkpointed = ['layers.0', 'layers.1']
    watched, watched_cfg = ('patches',), dict(global_attn_indexes=[2])
    modules = ['layers.0', 'layers.0.attn', 'layers.1.attn']
    refused = [
        (dict(out_indices=3), 'asks for 3, but'),
        (dict(watch='patches'), 'needs attention over all tokens'),
    ]

    def make(self, global_attn_indexes=(1,), **cfg):
        """Three blocks: windows of 3 x 3, global, windows."""
        arch = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
        arch['global_attn_indexes'] = list(global_attn_indexes)
        small = dict(img_size=20, patch_size=4, window_size=3, out_channels=8)
        return toys.build('ViTSAM', arch=arch, **(small | cfg))


ARCH = dict(
    embed_dims=[16, 32],
    depths=[2, 2],
    num_heads=[1, 2],
    patch_sizes=[4, 2],
    strides=[4, 2],
    mlp_ratios=[2, 2],
    sr_ratios=[2, 1],
)


class TestPCPVT(FamilyContract):
    oracle = staticmethod(windows.twins_labels)
    exact = False
    size = 24
    name, arch = 'PCPVT', ARCH
    variants = [
        dict(size=(24, 32)),  # windows are padded on one side: the host's mask is empty
        dict(size=(27, 39)),  # padded on both; not even whole patches
        dict(out_indices=(0,)),
        dict(out_indices=(0, 1), qkv_bias=True, norm_after_stage=True),
        # overlapping embeddings; the last row is left out of the keys
        dict(arch=dict(sr_ratios=[4, 2], patch_sizes=[5, 3]), size=(28, 40)),
    ]
    checkpointed = ['stages.0.0', 'stages.1.1']
    watched = ('patches',)
    modules = ['patch_embeds.1', 'stages.0.0', 'stages.0.0.attn', 'stages.1.1', 'stages.1.1.attn']
    refused = [
        (dict(attn_drop_rate=0.3), '^stages.0.0.attn has attention dropout 0.3'),
        (dict(out_indices=(1, 3)), 'asks for 3, but'),
        (dict(propagation='contribution'), 'needs projection, residual, values where .* mixes'),
        (dict(arch=dict(sr_ratios=[2, 2]), watch='patches'), 'needs attention over all tokens'),
    ]

    def make(self, arch=(), **cfg):
        """Two stages of two blocks; windows of 3 and 2 tokens in SVT."""
        return toys.build(self.name, arch=self.arch | dict(arch), **(dict(out_indices=(1,)) | cfg))


class TestSVT(TestPCPVT):
    name, arch = 'SVT', ARCH | dict(window_sizes=[3, 2])
