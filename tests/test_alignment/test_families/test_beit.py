"""Shares through BEiT, against float64."""

from tests.oracles.vits import beit_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract


class TestBEiT(FamilyContract):
    oracle = staticmethod(beit_labels)
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
