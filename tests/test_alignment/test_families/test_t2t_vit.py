"""Shares through T2T-ViT, against a dense oracle."""

from tests.oracles.vits import t2t_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract


class TestT2TViT(FamilyContract):
    oracle = staticmethod(t2t_labels)
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
