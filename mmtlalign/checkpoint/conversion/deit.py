"""Plain ViTs: ViT, DeiT, DeiT III, MAE, DINO and DINOv2.

Their releases have timm's keys, but for the layer scale of DeiT III.
"""

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
from .vit import LAYERS, arch_of, side_of

# timm, mmpretrain
TABLE = [
    ('patch_embed.proj.', 'backbone.patch_embed.projection.'),
    ('cls_token', 'backbone.cls_token'),
    ('dist_token', 'backbone.dist_token'),
    ('pos_embed', 'backbone.pos_embed'),
    *LAYERS,
    ('blocks.{}.ls1.gamma', 'backbone.layers.{}.attn.gamma1.weight'),
    ('blocks.{}.ls2.gamma', 'backbone.layers.{}.ffn.gamma2.weight'),
    ('blocks.{}.gamma_1', 'backbone.layers.{}.attn.gamma1.weight'),  # DeiT III's release
    ('blocks.{}.gamma_2', 'backbone.layers.{}.ffn.gamma2.weight'),
    ('norm.', 'backbone.ln1.'),
    ('fc_norm.', 'backbone.ln2.'),  # after the mean over patches
    ('head.', 'head.layers.head.'),
    ('head_dist.', 'head.layers.head_dist.'),
    ('head.', 'head.fc.'),  # of mmpretrain's linear head
]


class DeiT(Family):
    """DeiT, distilled or not, and ViT, however it was trained."""

    name = 'DeiT or ViT'
    marks = dict(timm='blocks.0.norm1.weight', mmpretrain='backbone.layers.0.ln1.weight')
    pretraining = ('mask_token', 'decoder_', 'head.mlp.', 'head.last_layer', 'neck.')

    def table(self, state: State, layout: str) -> Table:
        return TABLE

    def to_mmpretrain(self, state: State, layout: str, path: str) -> State:
        """As in the base class; of mmpretrain's DeiT3, for its ViT.

        Before its feed-forward layers DeiT3 normalizes by ``ln1``, and the releases by their second
        norm. So ViT, which has a position for the class token, takes both.
        """
        state = super().to_mmpretrain(state, layout, path)
        if has_class_position(state):
            return state
        if layout == 'mmpretrain':
            state = {
                key: state[key.replace('.ln2.', '.ln1.')].clone() if '.layers.' in key else value
                for key, value in state.items()
            }
        return self.adopt(state)

    def adopt(self, state: State) -> State:
        """Give a class token without a position one of zeros."""
        if has_class_position(state):
            return state
        positions = state['backbone.pos_embed']
        zero = torch.zeros_like(positions[:, :1])
        return {**state, 'backbone.pos_embed': torch.cat([zero, positions], dim=1)}

    def release(self, state: State) -> State:
        """Leave a class token's position of zeros out, as DeiT III does."""
        positions = state['backbone.pos_embed']
        if 'backbone.cls_token' not in state or positions[:, 0].any():
            return state
        return {**state, 'backbone.pos_embed': positions[:, 1:].contiguous()}

    def build(self, state: State, path: str) -> nn.Module:
        width, channels, patch_size = state['backbone.patch_embed.projection.weight'].shape[:3]
        distilled, has_class = (f'backbone.{kind}_token' in state for kind in ('dist', 'cls'))
        patches = state['backbone.pos_embed'].shape[1] - has_class - distilled
        cls = DistilledVisionTransformer if distilled else VisionTransformer
        options = {} if has_class else dict(with_cls_token=False, out_type='featmap')
        if 'backbone.ln2.weight' in state:
            options['out_type'] = 'avg_featmap'
        backbone = cls(
            arch=arch_of(state, path),
            img_size=side_of(patches, path) * patch_size,
            patch_size=patch_size,
            in_channels=channels,
            final_norm='backbone.ln1.weight' in state,
            qkv_bias='backbone.layers.0.attn.qkv.bias' in state,
            layer_scale_init_value=float('backbone.layers.0.attn.gamma1.weight' in state),
            **options,
        )
        weight = state.get('head.layers.head.weight')
        head_cls = DeiTClsHead if distilled else VisionTransformerClsHead
        return with_head(
            backbone,
            None if weight is None else head_cls(num_classes=len(weight), in_channels=width),
        )

    def timm_model(self, backbone: nn.Module, state: State) -> tuple[str, dict]:
        layer = backbone.layers[0]
        distilled, pooled = 'dist_token' in state, backbone.out_type == 'avg_featmap'
        rows, columns = backbone.patch_resolution
        arguments = dict(
            img_size=list(backbone.img_size),
            patch_size=backbone.patch_embed.projection.kernel_size[0],
            in_chans=backbone.patch_embed.projection.in_channels,
            embed_dim=backbone.embed_dims,
            depth=backbone.num_layers,
            num_heads=layer.attn.num_heads,
            mlp_ratio=layer.ffn.feedforward_channels / backbone.embed_dims,
            qkv_bias='blocks.0.attn.qkv.bias' in state,
        )
        if distilled:
            return 'deit_base_distilled_patch16_224', arguments
        arguments |= dict(
            class_token='cls_token' in state,
            no_embed_class=state['pos_embed'].shape[1] == rows * columns,
            init_values=1.0 if 'blocks.0.ls1.gamma' in state else None,
            global_pool='avg' if pooled else 'token',
            fc_norm='fc_norm.weight' in state,
            final_norm='norm.weight' in state or pooled,
        )
        return 'vit_base_patch16_224', arguments


def has_class_position(state: State) -> bool:
    """Whether every token that is no patch, if there is one, has a position."""
    return 'backbone.cls_token' not in state or (
        round(state['backbone.pos_embed'].shape[1] ** 0.5) ** 2
        != state['backbone.pos_embed'].shape[1]
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
