"""XCiT of mmpretrain (arXiv 2106.09681).

Cross-covariance attention mixes channels, not tokens, and moves no label;
the local convolutions have signed weights and are ignored, like position
encodings. What is left is class attention at the end (arXiv 2103.17239).
"""
import torch
from torch import Tensor, nn

from ..sites import CaughtAttention, Start, mix_heads, with_extra_tokens
from . import (
    check_out_indices,
    name_of,
    refuse_dropout,
    register_family,
    require_exact,
)
from .vit import ViT


@register_family('mmpretrain.XCiT')
class XCiT(ViT):
    """The class token enters at the first class attention.

    Raises:
        TypeError: A block or its attention is not the stock class.
        ValueError: Attention dropout, or nothing is read after class
            attention, before which no label moves.
    """
    num_extra_tokens = 1

    def __init__(self, backbone: nn.Module) -> None:
        self.out_type = backbone.out_type
        for layer in backbone.xca_layers:
            require_exact(backbone, layer, 'mmpretrain.XCABlock')
            require_exact(backbone, layer.attn, 'mmpretrain.XCA')
        blocks = [self.site_of(backbone, layer)
                  for layer in backbone.ca_layers]
        self.sites = [Start(backbone.patch_embed), *blocks]
        depth = len(backbone.xca_layers)
        last = check_out_indices(backbone.out_indices, depth + len(blocks))
        if last < depth:
            raise ValueError(
                f'out_indices {tuple(backbone.out_indices)} ends before class '
                f'attention (block {depth}), where XCiT first moves a label; '
                'use out_indices=(-1, ).')
        self.output = blocks[last - depth]

    def site_of(self, backbone: nn.Module, layer: nn.Module):
        require_exact(backbone, layer, 'mmpretrain.ClassAttentionBlock')
        require_exact(backbone, layer.attn, 'mmpretrain.ClassAttntion')
        refuse_dropout(name_of(backbone, layer.attn), layer.attn.attn_drop.p)
        joining = int(layer is backbone.ca_layers[0])
        return ClassAttention(layer.attn, joining)


class ClassAttention(CaughtAttention):
    """Only the class token, a matrix (B, H, 1, N), takes from others.

    Args:
        attn (nn.Module): The attention module.
        joining (int): How many tokens join before the patches here.
    """
    offers = frozenset({'matrix'})

    def __init__(self, attn: nn.Module, joining: int) -> None:
        super().__init__(attn, through=attn.attn_drop)
        self.joining = joining

    def skip(self) -> Tensor:
        return with_extra_tokens(self.trace.share, self.joining)

    def mix(self, matrix: Tensor) -> Tensor:
        share = self.skip()
        return torch.cat((mix_heads(matrix, share), share[:, 1:]), dim=1)
