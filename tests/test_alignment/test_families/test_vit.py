"""Shares through plain vision transformers, against the dense oracle."""

import pytest
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import MultiheadAttention

from tests.oracle import labels_of
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract, assert_family


class Renamed(VisionTransformer):
    """A subclass that computes what its parent computes."""


class ViT(FamilyContract):
    oracle = staticmethod(labels_of)
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
