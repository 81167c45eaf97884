"""Shares through families in which every block mixes all tokens, against oracles of their own."""

import pytest
import timm
import torch
from mmpretrain.models import TIMMBackbone, VisionTransformer
from mmpretrain.models.utils import MultiheadAttention
from timm.models.vision_transformer import ResPostBlock
from torchvision.models.vision_transformer import ConvStemConfig

from mmtlalign.alignment import LabelTrace, refused_backbones
from tests.oracles import vits
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_same
from tests.test_alignment.contract import FamilyContract, assert_family


class Renamed(VisionTransformer):
    """A subclass that computes what its parent computes."""


class ViT(FamilyContract):
    oracle = staticmethod(vits.vit_labels)
    exact = False
    name = 'VisionTransformer'
    checkpointed = ['layers.0', 'layers.1.attn', 'layers.2']
    rates = dict(drop_path_rate=0.9, drop_rate=0.5)
    modules = ['layers.0', 'layers.2.attn']

    def make(self, **cfg):
        return toys.vit(self.name, **cfg)


class TestVisionTransformer(ViT):
    # every output the host can give: without a class token no `cls_token`
    variants = [
        dict(out_type='cls_token', size=(18, 15)),  # padded to whole patches by the host
        dict(out_type='avg_featmap', size=(28, 12)),
        dict(out_type='featmap', out_indices=[0, 1]),
        dict(out_type='raw', out_indices=[2, 0]),
        dict(out_type='avg_featmap', with_cls_token=False),
        dict(out_type='featmap', with_cls_token=False),
        dict(out_type='raw', with_cls_token=False),
        dict(out_indices=-2, pre_norm=True),
        dict(out_indices=[0, 1], out_type='avg_featmap', final_norm=False),
        dict(layer_scale_init_value=0.5, qkv_bias=False),
        dict(frozen_stages=1, layer_cfgs=dict(ffn_type='swiglu_fused')),
    ]
    refused = [
        (dict(layer_cfgs=dict(attn_drop_rate=0.1)), r'layers\.0\.attn .*dropout 0\.1'),
        (dict(qk_scale=0.3), r'layers\.1\.attn .*qk_scale'),
    ]

    def make(self, qk_scale=None, **cfg):
        backbone = super().make(**cfg)
        if qk_scale:
            backbone.layers[1].attn = MultiheadAttention(32, 2, qk_scale=qk_scale)
        return backbone

    @pytest.mark.slow
    def test_architecture_by_its_name(self):
        self.patch, size = 8, dict(img_size=32, patch_size=8)
        backbone = toys.build(self.name, arch='deit-tiny', **size)
        assert_family(backbone, *self.inputs(32), self.oracle, self.exact)

    def test_subclass_without_a_forward(self):
        backbone = toys.fill(Renamed(arch=toys.VIT, img_size=16, patch_size=4))
        assert_family(backbone, *self.inputs(), self.oracle, self.exact)


class TestDistilledVisionTransformer(ViT):
    name = 'DistilledVisionTransformer'
    variants = [
        dict(out_type='cls_token', size=(16, 24)),
        dict(out_type='avg_featmap'),
        dict(out_type='featmap'),
        dict(out_type='raw'),
    ]
    refused = [(dict(watch='rows'), "watch='rows' must be one of")]


class TestDeiT3(ViT):
    name = 'DeiT3'
    variants = [
        dict(out_type='cls_token', size=(18, 15)),
        dict(out_type='raw', out_indices=[0, 2]),
        dict(out_type='featmap'),
        dict(out_type='featmap', with_cls_token=False),
        dict(gamma=1e-5),  # the host's default, which scales features, never shares
    ]
    refused = [
        (dict(out_type='avg_featmap'), 'avg_featmap.* mmpretrain'),
        (dict(layer_cfgs=[{}, dict(attn_drop_rate=0.1), {}]), r'layers\.1\.attn .* 0\.1'),
    ]

    def make(self, gamma=None, **cfg):
        backbone = super().make(**cfg)
        for name, parameter in backbone.named_parameters():
            if gamma and 'gamma' in name:
                parameter.data.fill_(gamma)
        return backbone


class TestBEiT(FamilyContract):
    oracle = staticmethod(vits.beit_labels)
    variants = [
        dict(),
        dict(out_type='cls_token'),
        dict(out_type='featmap', out_indices=[0, 2]),
        dict(out_type='raw', out_indices=[1]),
        dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        dict(use_rel_pos_bias=False, use_abs_pos_emb=True, bias=True, size=(18, 27)),
        dict(use_rel_pos_bias=False, with_cls_token=False, bias=False),
        dict(use_rel_pos_bias=False, with_cls_token=False, out_type='raw'),
        dict(layer_scale_init_value=0.0, final_norm=True),
        dict(layer_cfgs=dict(attn_cfg=dict(qk_scale=0.7))),
        dict(img_size=(12, 24), size=(12, 24)),
    ]
    checkpointed = ['layers.0', 'layers.2']
    rates = dict(drop_path_rate=0.9, drop_rate=0.5)
    modules = ['layers.0', 'layers.1.attn']
    refused = [
        # the host hands its own `attn_drop_rate` on under a name that is ignored
        (
            dict(layer_cfgs=dict(attn_cfg=dict(attn_drop_rate=0.1))),
            r'layers\.0\.attn .*dropout 0\.1',
        ),
        (dict(out_indices=[3]), 'asks for 3, but'),
    ]

    def make(self, **cfg):
        return toys.vit('BEiTViT', **cfg)


class TestEVA02(FamilyContract):
    oracle = staticmethod(vits.eva02_labels)
    variants = [
        dict(),
        dict(out_type='avg_featmap', sub_ln=True),
        dict(out_type='featmap', out_indices=[0, 1]),
        dict(out_type='raw', qkv_bias=False),
        dict(out_type='raw', with_cls_token=False),
        dict(layer_cfgs=dict(rope=None, qk_scale=0.5)),
    ]
    checkpointed = ['layers.0', 'layers.2']
    modules = ['layers.0', 'layers.1.attn']
    refused = [
        (dict(attn_drop_rate=0.1), r'layers\.0\.attn .*dropout 0\.1'),
        (dict(propagation='contribution'), "'contribution' needs .*ViTEVA02"),
    ]

    def make(self, **cfg):
        return toys.vit('ViTEVA02', **cfg)

    def test_image_of_another_size(self):
        backbone, (images, share) = self.make(), self.inputs((12, 23))
        backbone(images)  # the host now keeps the angles of this size
        assert_family(backbone, images, share, self.oracle)


class TestHiViT(FamilyContract):
    oracle = staticmethod(vits.hivit_labels)
    size, patch = 32, 8
    variants = [
        dict(),
        dict(rpe=True, ape=False),
        dict(layer_scale_init_value=0.1, patch_norm=False),
        dict(qkv_bias=False, qk_scale=0.5),
        dict(depths=[2]),
        dict(kernel_size=6, pad_size=1),  # the stem overlaps
        dict(size=(24, 40)),
    ]
    checkpointed = ['blocks.0', 'blocks.3', 'blocks.5']  # 0 to 2 come before the main stage
    watched = ('patches',)
    modules = ['blocks.3', 'blocks.4.attn']
    refused = [(dict(attn_drop_rate=0.1), r'blocks\.3\.attn .*dropout 0\.1')]

    def make(self, depths=(1, 4), **cfg):
        """Two stages, patches of 8 pixels with 2 x 2 inner ones.

        The last stage must be deeper than the others together: the host reads
        one list of indices for both.
        """
        arch = dict(embed_dims=32, depths=list(depths), num_heads=2)
        small = dict(patch_size=8, inner_patches=2, img_size=32, out_indices=[-1])
        return toys.build('HiViT', arch=arch, **(small | cfg))

    def test_three_stages(self):
        self.patch = 16
        three = dict(depths=[1, 1, 7], patch_size=16, inner_patches=4, img_size=48, size=48)
        self.test_variant(three)


class TestT2TViT(FamilyContract):
    oracle = staticmethod(vits.t2t_labels)
    size = 32
    variants = [
        dict(),
        dict(size=(28, 36)),  # 7 x 9 tokens, then 4 x 5: odd, so that cells are padded
        dict(size=(27, 38)),  # not even whole patches
        dict(out_indices=[0, 1]),
        dict(out_type='raw', final_norm=False),
        dict(out_type='featmap'),
        dict(out_type='avg_featmap'),
        dict(out_type='raw', with_cls_token=False),
        dict(layer_cfgs=dict(num_heads=2, qkv_bias=True)),
        dict(layer_cfgs=dict(num_heads=2, qk_scale=0.3)),  # which the host ignores
    ]
    checkpointed = ['tokens_to_token.attention1', 'encoder.0']
    modules = [
        'tokens_to_token.attention1',
        'tokens_to_token.attention2.attn',
        'encoder.1',
        'encoder.1.attn',
    ]
    refused = [
        (
            dict(layer_cfgs=dict(num_heads=2, attn_drop_rate=0.3)),
            r'^encoder\.0\.attn has attention dropout 0.3',
        )
    ]

    def make(self, **cfg):
        """Two layers after the tokens-to-token module; weights of attention are
        small, as the host multiplies scores by the root of a head's width."""
        small = dict(img_size=32, embed_dims=24, num_layers=2, layer_cfgs=dict(num_heads=2))
        backbone = toys.build('T2T_ViT', **(small | dict(t2t_cfg=dict(token_dims=8)) | cfg))
        for name, parameter in backbone.named_parameters():
            if 'qkv.weight' in name:
                parameter.data *= 0.4
        return backbone

    def grid(self, side):
        return (side - 3) // 4 + 1


class TestXCiT(FamilyContract):
    oracle = staticmethod(vits.xcit_labels)
    size, patch = 32, 8
    variants = [
        dict(),
        dict(out_type='raw', tokens_norm=True),
        dict(out_indices=(2,)),
        dict(out_indices=[-1, 2], use_pos_embed=False),
        dict(cls_attn_layers=1, qkv_bias=False),
        dict(cls_attn_layers=3, layer_scale_init_value=0.1),
        dict(size=(24, 64)),
    ]
    checkpointed = ['xca_layers.1', 'ca_layers.0', 'ca_layers.1']
    watched = ()  # patches do not attend at all
    modules = ['xca_layers.0', 'xca_layers.1.attn', 'ca_layers.0', 'ca_layers.1.attn']
    refused = [
        (dict(attn_drop_rate=0.1), r'ca_layers\.0\.attn .*dropout 0\.1'),
        (dict(out_type='featmap', out_indices=(0, 1)), r'\(0, 1\) ends before .*block 2'),
    ]

    def make(self, **cfg):
        """Two blocks of either kind, 32 channels, patches of 8 pixels."""
        small = dict(img_size=32, patch_size=8, embed_dims=32, depth=2, num_heads=2)
        backbone = toys.build('XCiT', **(small | dict(init_cfg=None) | cfg))
        backbone.eval()
        return backbone

    @pytest.mark.parametrize('out_type', ['featmap', 'avg_featmap'])
    def test_patches_keep_what_they_had(self, out_type):
        backbone = self.make(out_type=out_type)
        images, share = self.inputs()
        trace = LabelTrace(backbone, record=True)
        with trace(share):
            backbone(images)
        for block_share in trace.block_shares:
            assert_same(block_share[:, 1:], share.flatten(1), 0)
        assert_same(trace.output_share, share.mean((1, 2)), 1e-6)


class TestTimmViT(FamilyContract):
    oracle = staticmethod(vits.timm_labels)
    exact = False
    fused = True
    variants = [
        dict(),
        dict(name='VisionTransformerDistilled'),
        dict(reg_tokens=2),
        dict(reg_tokens=2, global_pool='avg'),
        dict(reg_tokens=1, global_pool='avg', pool_include_prefix=True),
        dict(global_pool='', class_token=False),
        dict(global_pool='', pre_norm=True, num_classes=0),
        dict(init_values=0.5, no_embed_class=True),  # DeiT-III
        dict(qk_norm=True, scale_attn_norm=True, qkv_bias=False),
        dict(dynamic_img_size=True, dynamic_img_pad=True, size=(18, 27)),
    ]
    rates = dict(drop_path_rate=0.5, proj_drop_rate=0.2)
    checkpointed = ['blocks.0', 'blocks.2']
    with_cp = dict(with_cp=True)
    modules = ['blocks.0', 'blocks.1.attn']
    refused = [
        (dict(global_pool='map'), "global_pool='map' weighs tokens"),
        (dict(patch_drop_rate=0.5), 'patch_drop_rate drops patches'),
        (dict(attn_drop_rate=0.1), 'blocks.0.attn has attention dropout 0.1'),
        (dict(gated=True), 'blocks.1.attn gates its output'),
        (dict(attn_layer='diff'), 'blocks.0.attn is a DiffAttention'),
        (dict(block_fn=ResPostBlock), 'blocks.0 is a ResPostBlock'),
        (
            dict(scale_attn_norm=True, propagation='contribution'),
            "'contribution' needs projection, residual, values where VisionTransformer",
        ),
    ]

    def make(self, gated=False, **cfg):
        backbone = toys.timm_vit(fused=self.fused, **cfg)
        if gated:
            backbone.blocks[1].attn.gate = torch.nn.Linear(32, 32)
        return backbone


class TestEagerTimmViT(TestTimmViT):
    exact, fused = True, False
    variants = TestTimmViT.variants[:4]


def test_inside_the_wrapper_of_mmpretrain():
    images, share = toys.images(), toys.shares()
    backbone = toys.fill(
        TIMMBackbone(
            'vit_tiny_patch16_224', img_size=16, patch_size=4, embed_dim=32, depth=3, num_heads=2
        )
    )
    before = list(backbone.state_dict())
    stock = backbone(images)
    trace, inner = LabelTrace(backbone), LabelTrace(backbone.timm_model)
    for each in (trace, inner):
        with each(share):
            features = each.backbone(images)
    assert_same(features, stock[0])
    assert_same(trace.output_share, inner.output_share)
    assert list(backbone.state_dict()) == before
    assert 'forward' not in vars(backbone)


@pytest.mark.parametrize('name', ['eva02_tiny_patch14_224', 'naflexvit_base_patch16_gap'])
def test_refused_models(name):
    with torch.device('meta'):
        backbone = timm.create_model(name)
    with pytest.raises(TypeError, match='is refused: ') as error:
        LabelTrace(backbone)
    assert '\n' not in str(error.value)
    assert f'timm.{type(backbone).__name__}' in refused_backbones()


def test_refused_masks():
    backbone = toys.timm_vit()
    with LabelTrace(backbone)(toys.shares()):
        with pytest.raises(ValueError, match='attention with a mask'):
            backbone(toys.images(), is_causal=True)


class TestTorchvisionViT(FamilyContract):
    oracle = staticmethod(vits.torchvision_labels)
    exact = False
    variants = [
        dict(),
        dict(representation_size=8),
        dict(conv_stem_configs=[ConvStemConfig(8, 3, 2), ConvStemConfig(8, 3, 2)]),
    ]
    rates = dict(dropout=0.5)  # which draws in the order of memory
    layers = 'encoder.layers.encoder_layer_'
    checkpointed = [layers + '0', layers + '2']
    modules = [layers + '0', layers + '1.self_attention']
    refused = [
        (dict(attention_dropout=0.1), 'encoder_layer_0.self_attention has attention dropout 0.1')
    ]

    def make(self, **cfg):
        backbone = toys.torchvision_vit(**cfg)
        return backbone.eval() if 'conv_stem_configs' in cfg else backbone

    def test_fast_path_of_inference(self):
        backbone = self.make().eval()
        images, share = self.inputs()
        trace = LabelTrace(backbone)
        with trace(share):
            backbone(images)
        kept = trace.output_share
        with torch.inference_mode():
            stock = backbone(images)
            with trace(share):
                assert_same(backbone(images), stock)
        assert_same(trace.output_share, kept, 1e-6)
