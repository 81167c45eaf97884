"""Shares through pyramids, which pool keys, queries or tokens, against oracles of their own."""

import pytest
from mmpretrain.models import LeViT

from mmtlalign.alignment import LabelTrace
from tests.oracles import pyramids
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract

NO_ROWS = dict(sr_ratios=[2, 2], watch='patches'), 'needs attention over all tokens'


class PVT(FamilyContract):
    """Two stages of two blocks."""

    oracle = staticmethod(pyramids.pvt_labels)
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
    watched = ()
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


# The host takes architectures by name only.
SMALL = dict(
    two=dict(embed_dims=[32, 48], num_heads=[2, 3], depths=[2, 1], key_dims=[8, 8]),
    three=dict(embed_dims=[16, 32, 32], num_heads=[2, 2, 2], depths=[1, 1, 1], key_dims=[8, 8, 8]),
)


class TestLeViT(FamilyContract):
    oracle = staticmethod(pyramids.levit_labels)
    size, patch = 64, 16
    variants = [
        dict(),
        dict(out_indices=0),
        dict(out_indices=(0, 1), mlp_ratio=0),
        dict(attn_ratio=1, deploy=True),
        # 5 x 5 tokens, then 3 x 3, then 2 x 2
        dict(arch='three', img_size=80, size=80, out_indices=1),
        dict(arch='three', img_size=80, size=80, out_indices=2, training=True),
    ]
    checkpointed = ['stages.0.0', 'stages.1.0', 'stages.1.2']
    rates = dict(drop_path_rate=0.5)
    watched = ('patches',)
    modules = ['stages.0.0', 'stages.0.0.block', 'stages.1.0', 'stages.0.1.block']
    refused = [(dict(propagation='contribution'), "'contribution' needs .*LeViT")]

    @pytest.fixture(autouse=True)
    def small_architectures(self, monkeypatch):
        monkeypatch.setattr(LeViT, 'arch_zoo', SMALL)

    def make(self, arch='two', training=False, **cfg):
        cfg = dict(img_size=64, drop_path_rate=0.0) | cfg
        backbone = toys.build('LeViT', arch=arch, **cfg)
        backbone.train(training)
        return backbone

    def test_grids(self):
        trace = LabelTrace(self.make(img_size=80), record=True)
        images, share = self.inputs(80)
        with trace(share):
            trace.backbone(images)
        assert trace.block_grids == [(5, 5)] * 2 + [(3, 3)] * 2

    def test_watch_before_subsampling(self):
        self.watched_cfg = dict(out_indices=0)
        self.test_watch()


class TestMViT(FamilyContract):
    oracle = staticmethod(pyramids.mvit_labels)
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


class TestPoolFormer(FamilyContract):
    oracle = staticmethod(pyramids.poolformer_labels)
    size = 32
    variants = [
        dict(),
        dict(size=(20, 28)),  # odd, so that cells of the merging are cut off
        dict(out_indices=[0]),
        dict(out_indices=[1]),  # what is merged, before its stage
        dict(out_indices=[0, 2], pool_size=5),
        dict(down_patch_size=2, down_pad=0),
        dict(embed_dims=(8, 8), out_indices=[1]),  # nothing is merged
        dict(layers=(1, 1, 1), embed_dims=(8, 16, 24), out_indices=[4]),
    ]
    checkpointed = ['network.0.1', 'network.1', 'network.2']
    watched = ()
    modules = ['network.0.0', 'network.0.1.token_mixer', 'network.1']
    refused = [(dict(propagation='contribution'), "'contribution' needs .*PoolFormer")]

    def make(self, layers=(2, 1), embed_dims=(8, 16), **cfg):
        """Two stages after patches of 4 pixels."""
        arch = dict(layers=list(layers), embed_dims=list(embed_dims), layer_scale_init_value=1.0)
        return toys.build(
            'PoolFormer', arch=arch, **(dict(out_indices=[2], frozen_stages=-1) | cfg)
        )
