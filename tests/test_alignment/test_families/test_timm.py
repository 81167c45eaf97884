"""Shares through timm's ViT and Swin, against oracles of their own."""

import pytest
import torch
from mmpretrain.models import TIMMBackbone
from timm.models.vision_transformer import ResPostBlock

from mmtlalign.alignment import LabelTrace, refused_backbones
from tests.oracles.vits import timm_labels
from tests.oracles.windows import timm_swin_labels
from tests.test_alignment import timm_toys, toys
from tests.test_alignment.checks import assert_same
from tests.test_alignment.contract import FamilyContract


class TestViT(FamilyContract):
    oracle = staticmethod(timm_labels)
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
        backbone = timm_toys.vit(fused=self.fused, **cfg)
        if gated:
            backbone.blocks[1].attn.gate = torch.nn.Linear(32, 32)
        return backbone


class TestEagerViT(TestViT):
    exact, fused = True, False
    variants = TestViT.variants[:4]


class TestSwin(FamilyContract):
    oracle = staticmethod(timm_swin_labels)
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
        return timm_toys.swin(**cfg)


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
    import timm

    with torch.device('meta'):
        backbone = timm.create_model(name)
    with pytest.raises(TypeError, match='is refused: ') as error:
        LabelTrace(backbone)
    assert '\n' not in str(error.value)
    assert f'timm.{type(backbone).__name__}' in refused_backbones()


def test_refused_masks():
    backbone = timm_toys.vit()
    with LabelTrace(backbone)(toys.shares()):
        with pytest.raises(ValueError, match='attention with a mask'):
            backbone(toys.images(), is_causal=True)
