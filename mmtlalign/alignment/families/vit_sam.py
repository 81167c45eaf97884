"""ViTSAM of mmpretrain, the image encoder of SAM (arXiv 2304.02643). The neck, which has
convolutions, moves nothing."""

from torch import nn

from ..sites import CaughtAttention, Site, Start, WindowAttention
from . import Family, register_family, stock


@register_family('mmpretrain.ViTSAM')
class ViTSAM(Family):
    """Blocks mix tokens inside windows or globally."""

    def __init__(self, backbone: nn.Module) -> None:
        blocks = [[_attention(backbone, layer)] for layer in backbone.layers]
        self.lay_out(Start(backbone.patch_embed), blocks, backbone.out_indices)


def _attention(backbone: nn.Module, layer: nn.Module) -> Site:
    stock(backbone, layer, 'mmpretrain.TransformerEncoderLayer', attn='mmpretrain.Attention')
    attn, side = layer.attn, layer.window_size
    return WindowAttention(attn, side) if side else CaughtAttention(attn)
