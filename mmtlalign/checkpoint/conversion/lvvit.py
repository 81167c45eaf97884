"""LV-ViT: the authors' releases have the keys that this calls timm's."""

from mmpretrain.models import VisionTransformerClsHead
from torch import nn

from mmtlalign.models import LVViT, TokenLabelHead

from .family import Family, State, Table, with_head
from .vit import LAYERS, arch_of, side_of

# published, mmtlalign
TABLE = [
    # three convolutions, each followed by a norm and an activation
    *(
        (f'patch_embed.{part}{i + 1}.', f'backbone.patch_embed.stem.{3 * i + offset}.')
        for i in range(3)
        for offset, part in enumerate(('conv', 'bn'))
    ),
    ('patch_embed.proj.', 'backbone.patch_embed.projection.'),
    ('cls_token', 'backbone.cls_token'),
    ('pos_embed', 'backbone.pos_embed'),
    *LAYERS,
    ('norm.', 'backbone.ln1.'),
    ('head.', 'head.layers.head.'),
    ('aux_head.', 'head.aux_head.'),
]
LOSS = dict(type='mmpretrain.CrossEntropyLoss')


class LVViTFamily(Family):
    """LV-ViT, with or without the head of its dense labels."""

    name = 'LV-ViT'
    marks = dict(timm='patch_embed.conv1.weight', mmpretrain='backbone.patch_embed.stem.0.weight')

    def table(self, state: State, layout: str) -> Table:
        return TABLE

    def build(self, state: State, path: str) -> nn.Module:
        """As in the base class.

        ``skip_lam``, too, is not to be seen in weights and stays at one.
        """
        width, channels, half = state['backbone.patch_embed.projection.weight'].shape[:3]
        patches = state['backbone.pos_embed'].shape[1] - 1
        backbone = LVViT(
            arch=dict(arch_of(state, path), stem_channels=channels),
            img_size=side_of(patches, path) * 2 * half,
            patch_size=2 * half,
            qkv_bias='backbone.layers.0.attn.qkv.bias' in state,
        )
        weight = state.get('head.layers.head.weight')
        if weight is None:
            return with_head(backbone, None)
        dense = 'head.aux_head.weight' in state
        head_cls = TokenLabelHead if dense else VisionTransformerClsHead
        return with_head(backbone, head_cls(num_classes=len(weight), in_channels=width, loss=LOSS))
