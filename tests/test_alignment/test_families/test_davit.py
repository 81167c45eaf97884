"""Shares through DaViT, against a dense oracle."""

from tests.oracles.windows import davit_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract


class TestDaViT(FamilyContract):
    oracle = staticmethod(davit_labels)
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
