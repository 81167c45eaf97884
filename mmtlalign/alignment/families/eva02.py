"""EVA-02 of mmpretrain (arXiv 2303.11331): a ViT with rotary positions."""

from torch import nn

from ..sites import CaughtAttention, Site
from . import register_family, stock
from .vit import ViT


@register_family('mmpretrain.ViTEVA02')
class EVA02(ViT):
    """Tokens and what is read of them as in :class:`ViT`."""

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        stock(backbone, layer, 'mmpretrain.EVA02EndcoderLayer', attn='mmpretrain.AttentionWithRoPE')
        return CaughtAttention(layer.attn)
