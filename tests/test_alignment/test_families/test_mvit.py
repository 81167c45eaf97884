"""Shares through MViT, against a dense oracle."""

from tests.oracles.pyramids import mvit_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract


class TestMViT(FamilyContract):
    oracle = staticmethod(mvit_labels)
    size = (28, 32)
    variants = [
        dict(size=32),
        dict(size=(28, 33)),  # 7 x 9 tokens: odd, so that pooling is padded
        dict(out_scales=0),
        dict(out_scales=[0, 1]),
        dict(adaptive_kv_stride=1, qkv_bias=False),
        dict(pool_kernel=(5, 5)),
        dict(rel_pos_spatial=False, use_abs_pos_embed=True),
        dict(residual_pooling=False),
        dict(dim_mul_in_attention=False),
    ]
    checkpointed = ['blocks.0', 'blocks.1', 'blocks.2']
    rates = dict(drop_path_rate=0.5)
    watched = ()
    modules = ['blocks.1', 'blocks.1.attn']
    refused = [(dict(out_scales=3), 'asks for 3, but')]

    def make(self, **cfg):
        """Four blocks, of which two leave a quarter of the tokens; keys are
        strided in the first."""
        arch = dict(embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 3])
        return toys.build('MViT', arch=arch, **(dict(img_size=32) | cfg))
