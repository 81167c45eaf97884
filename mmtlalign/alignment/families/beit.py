"""BEiT and BEiT v2 of mmpretrain (arXiv 2106.08254, 2208.06366): a ViT with a bias for relative
positions."""

from functools import partial

from torch import Tensor, nn

from ..sites import Branch, CaughtAttention, Site
from . import register_family, stock
from .vit import ViT


@register_family('mmpretrain.BEiTViT')
class BEiT(ViT):
    """Tokens and what is read of them as in :class:`ViT`."""

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        block, attn = 'mmpretrain.BEiTTransformerEncoderLayer', 'mmpretrain.BEiTAttention'
        stock(backbone, layer, block, attn=attn)
        return CaughtAttention(layer.attn, Branch(layer, layer.attn.proj, partial(_scale, layer)))


def _scale(layer: nn.Module, branch: Tensor) -> Tensor:
    return branch if layer.gamma_1 is None else branch * layer.gamma_1
