"""Shares through ViTSAM, against a dense oracle."""

from tests.oracles.windows import sam_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract


class TestViTSAM(FamilyContract):
    oracle = staticmethod(sam_labels)
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
