"""Plain DeiT and ViT: DeiT's releases have timm's keys."""

import torch
from mmpretrain.models import (
    DeiTClsHead,
    DistilledVisionTransformer,
    VisionTransformer,
    VisionTransformerClsHead,
)
from torch import nn

from mmtlalign.errors import UserError

from .family import Family, State, Table, with_head
from .vit import LAYERS, arch_of

# timm, mmpretrain
TABLE = [
    ('patch_embed.proj.', 'backbone.patch_embed.projection.'),
    ('cls_token', 'backbone.cls_token'),
    ('dist_token', 'backbone.dist_token'),
    ('pos_embed', 'backbone.pos_embed'),
    *LAYERS,
    ('norm.', 'backbone.ln1.'),
    ('fc_norm.', 'backbone.ln2.'),  # after the mean over patches
    ('head.', 'head.layers.head.'),
    ('head_dist.', 'head.layers.head_dist.'),
]


class DeiT(Family):
    """DeiT, distilled or not, and ViT."""

    name = 'DeiT or ViT'
    marks = dict(timm='blocks.0.norm1.weight', mmpretrain='backbone.layers.0.ln1.weight')

    def table(self, state: State) -> Table:
        """As in the base class."""
        return TABLE

    def build(self, state: State, path: str) -> nn.Module:
        """As in the base class."""
        width, channels, patch_size = state['backbone.patch_embed.projection.weight'].shape[:3]
        distilled = 'backbone.dist_token' in state
        patches = state['backbone.pos_embed'].shape[1] - 1 - distilled
        if round(patches**0.5) ** 2 != patches:
            raise UserError(
                f"'{path}' has position embeddings for {patches} patches "
                'beside those of its tokens, which is no square; models whose '
                'tokens have no position (DeiT III) are not supported'
            )
        cls = DistilledVisionTransformer if distilled else VisionTransformer
        pooled = {} if 'backbone.ln2.weight' not in state else dict(out_type='avg_featmap')
        backbone = cls(
            arch=arch_of(state),
            img_size=round(patches**0.5) * patch_size,
            patch_size=patch_size,
            in_channels=channels,
            final_norm='backbone.ln1.weight' in state,
            qkv_bias='backbone.layers.0.attn.qkv.bias' in state,
            **pooled,
        )
        weight = state.get('head.layers.head.weight')
        head_cls = DeiTClsHead if distilled else VisionTransformerClsHead
        return with_head(
            backbone,
            None if weight is None else head_cls(num_classes=len(weight), in_channels=width),
        )


def drop_distillation(state: State) -> State:
    """Make a distilled DeiT a plain one: no second token, nor its head.

    Raises:
        UserError: If it is plain.
    """
    if 'backbone.dist_token' not in state:
        raise UserError('--drop-distillation: the file has no distillation token')
    state = {
        key: value
        for key, value in state.items()
        if not key.startswith(('backbone.dist_token', 'head.layers.head_dist.'))
    }
    positions = state['backbone.pos_embed']  # class, distillation, patches
    state['backbone.pos_embed'] = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
    return state
