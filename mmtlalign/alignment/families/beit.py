"""BEiT and BEiT v2 of mmpretrain (arXiv 2106.08254, 2208.06366).

Global attention with a bias for relative positions, caught as a matrix.
"""
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..sites import Branch, CaughtAttention, Site
from . import name_of, refuse_dropout, register_family, require_exact
from .vit import ViT


@register_family('mmpretrain.BEiTViT')
class BEiT(ViT):
    """Tokens and what is read of them as in :class:`ViT`."""

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        require_exact(backbone, layer,
                      'mmpretrain.BEiTTransformerEncoderLayer')
        attn = layer.attn
        require_exact(backbone, attn, 'mmpretrain.BEiTAttention')
        refuse_dropout(name_of(backbone, attn), attn.attn_drop.p)
        return CaughtAttention(
            attn, through=attn.attn_drop, values=_values,
            branch=Branch(layer, attn.proj, scale=partial(_scale, layer)))


def _values(attn: nn.Module, tokens: Tensor, *args) -> Tensor:
    """Again, since the host applies the weight of ``qkv`` past the module."""
    weight = attn.qkv.weight.chunk(3)[2]
    bias = attn.v_bias if attn.bias == 'qv_bias' else (
        attn.qkv.bias.chunk(3)[2] if attn.bias else None)
    value = F.linear(tokens.detach().to(weight.dtype), weight, bias)
    return value.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)


def _scale(layer: nn.Module, branch: Tensor) -> Tensor:
    return branch if layer.gamma_1 is None else branch * layer.gamma_1
