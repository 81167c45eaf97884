"""Shares through XCiT, against float64."""

import pytest

from mmtlalign.alignment import LabelTrace
from tests.oracles.vits import xcit_labels
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_same
from tests.test_alignment.contract import FamilyContract


class TestXCiT(FamilyContract):
    oracle = staticmethod(xcit_labels)
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
