"""BEiT and BEiT v2: the releases have timm's keys."""

from mmpretrain.models import BEiTViT
from torch import nn

from .family import Family, State, Table, with_linear_head
from .vit import LAYERS, arch_of

BIAS = 'rel_pos_bias.relative_position_bias_table'  # of all layers, in pretraining
# timm, mmpretrain
TABLE = [
    ('patch_embed.proj.', 'backbone.patch_embed.projection.'),
    ('cls_token', 'backbone.cls_token'),
    ('pos_embed', 'backbone.pos_embed'),
    (BIAS, f'backbone.{BIAS}'),
    *LAYERS,
    ('blocks.{}.attn.', 'backbone.layers.{}.attn.'),  # biases
    ('blocks.{}.gamma_', 'backbone.layers.{}.gamma_'),
    ('norm.', 'backbone.ln1.'),
    ('fc_norm.', 'backbone.ln2.'),
    ('head.', 'head.fc.'),
]


class BEiT(Family):
    """BEiT, pretrained or fine-tuned."""

    name = 'BEiT'
    marks = dict(timm='blocks.0.attn.q_bias', mmpretrain='backbone.layers.0.attn.q_bias')
    buffers = ('relative_position_index',)
    pretraining = ('mask_token', 'backbone.mask_token', 'lm_head.', 'cls_pt_', 'neck.')

    def table(self, state: State, layout: str) -> Table:
        return TABLE

    def build(self, state: State, path: str) -> nn.Module:
        _, channels, patch_size = state['backbone.patch_embed.projection.weight'].shape[:3]
        tables = [key for key in state if key.endswith('relative_position_bias_table')]
        shared = f'backbone.{BIAS}' in state
        if tables:
            grid = (round((len(state[tables[0]]) - 3) ** 0.5) + 1) // 2
            heads = state[tables[0]].shape[1]
        else:
            grid, heads = round((state['backbone.pos_embed'].shape[1] - 1) ** 0.5), 1
        backbone = BEiTViT(
            arch=dict(arch_of(state, path), num_heads=heads),
            img_size=grid * patch_size,
            patch_size=patch_size,
            in_channels=channels,
            final_norm='backbone.ln1.weight' in state,
            out_type='avg_featmap' if 'backbone.ln2.weight' in state else 'cls_token',
            use_abs_pos_emb='backbone.pos_embed' in state,
            use_rel_pos_bias=bool(tables) and not shared,
            use_shared_rel_pos_bias=shared,
            layer_scale_init_value=float('backbone.layers.0.gamma_1' in state),
        )
        return with_linear_head(backbone, state)
