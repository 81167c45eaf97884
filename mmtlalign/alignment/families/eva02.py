"""EVA-02 of mmpretrain (arXiv 2303.11331): a ViT with rotary positions."""
from torch import nn

from ..sites import CaughtAttention, Site
from . import name_of, refuse_dropout, register_family, require_exact
from .vit import ViT


@register_family('mmpretrain.ViTEVA02')
class EVA02(ViT):
    """Tokens and what is read of them as in :class:`ViT`."""

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        require_exact(backbone, layer, 'mmpretrain.EVA02EndcoderLayer')
        attn = layer.attn
        require_exact(backbone, attn, 'mmpretrain.AttentionWithRoPE')
        refuse_dropout(name_of(backbone, attn), attn.attn_drop.p)
        return CaughtAttention(attn, through=attn.attn_drop)
