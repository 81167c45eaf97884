"""Shares through PVT, PVTv2 and MiT, against a dense oracle."""

import pytest

from tests.oracles.pyramids import pvt_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract

NO_ROWS = dict(sr_ratios=[2, 2], watch='patches'), 'needs attention over all tokens'


class PVT(FamilyContract):
    """Two stages of two blocks."""

    oracle = staticmethod(pvt_labels)
    size = 32
    host, name, own = 'mmdet', '', {}
    variants = [
        dict(),
        dict(size=(28, 40)),  # 7 x 10 tokens: the last row is left out of the keys
        dict(size=(30, 47), qkv_bias=False),  # not even whole patches
        dict(out_indices=(0,)),
    ]
    checkpointed = ['layers.0.1.1', 'layers.1.1.0']
    watched = ('patches',)
    modules = ['layers.1.0', 'layers.0.1.1', 'layers.0.1.1.attn', 'layers.0.1.1.attn.attn']
    # hidden in `nn.MultiheadAttention.dropout`
    refused = [(dict(attn_drop_rate=0.3), r'^layers.0.1.[01].attn.attn has attention dropout 0.3')]

    def make(self, **cfg):
        backbones = pytest.importorskip(
            f'{self.host}.models.backbones',
            reason=f'{self.name} needs {self.host} with its operators',
            exc_type=ImportError,
        )
        small = dict(
            embed_dims=16,
            num_stages=2,
            num_layers=[2, 2],
            num_heads=[1, 2],
            strides=[4, 2],
            sr_ratios=[2, 1],
            out_indices=(1,),
            drop_path_rate=0.0,
        )
        return toys.fill(getattr(backbones, self.name)(**(small | self.own | cfg)))


class TestPVT(PVT):
    name = 'PyramidVisionTransformer'
    own = dict(pretrain_img_size=24, patch_sizes=[4, 2], paddings=[0, 0], mlp_ratios=[2, 2])
    variants = [
        *PVT.variants,
        dict(use_abs_pos_embed=False, norm_after_stage=True, use_conv_ffn=True),
        dict(sr_ratios=[4, 2], size=(32, 44)),
        dict(patch_sizes=[4, 3], paddings=[0, 'corner'], size=(32, 44)),
    ]

    def grid(self, side):
        return side // 4


class TestPVTv2(PVT):
    name = 'PyramidVisionTransformerV2'
    # the host fixes four patch sizes
    own = dict(
        num_stages=4,
        num_layers=[2, 1, 1, 1],
        num_heads=[1, 2, 2, 2],
        strides=[4, 2, 2, 2],
        sr_ratios=[2, 2, 1, 1],
        mlp_ratios=[2, 2, 2, 2],
    )


class TestMiT(PVT):
    host, name = 'mmseg', 'MixVisionTransformer'
    own = dict(patch_sizes=[7, 3], mlp_ratio=2)
    with_cp = dict(with_cp=True)
    refused = [*PVT.refused, NO_ROWS]
