"""XCiT of mmpretrain (arXiv 2106.09681).

Cross-covariance attention mixes channels, not tokens, and moves no label; the local convolutions
have signed weights and are ignored, like position encodings. What is left is class attention at
the end (arXiv 2103.17239).
"""

import torch
from torch import Tensor, nn

from ..sites import CaughtAttention, Site, Start, mix_heads, with_extra_tokens
from . import register_family, stock
from .vit import ViT


@register_family('mmpretrain.XCiT')
class XCiT(ViT):
    """The class token enters at the first class attention, before which no label moves; nothing
    that ends earlier is supported."""

    num_extra_tokens = 1

    def __init__(self, backbone: nn.Module) -> None:
        for layer in backbone.xca_layers:
            stock(backbone, layer, 'mmpretrain.XCABlock', attn='mmpretrain.XCA')
        depth = len(backbone.xca_layers)
        if max(backbone.out_indices) < depth:
            raise ValueError(
                f'out_indices {tuple(backbone.out_indices)} ends before class attention (block '
                f'{depth}), where XCiT first moves a label; use out_indices=(-1, ).'
            )
        stages: list[list] = [[] for _ in range(depth)]
        stages += [[self.site_of(backbone, layer)] for layer in backbone.ca_layers]
        stages[depth][0].joining = 1
        self.lay_out(Start(backbone.patch_embed), stages, backbone.out_indices)
        self.set_out_type(backbone)

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        block, attn = 'mmpretrain.ClassAttentionBlock', 'mmpretrain.ClassAttntion'
        return ClassAttention(stock(backbone, layer, block, attn=attn).attn)


class ClassAttention(CaughtAttention):
    """Only the class token, a matrix (B, H, 1, N), takes from others."""

    offers = frozenset({'matrix'})
    joining = 0  # how many tokens join before the patches here

    def skip(self) -> Tensor:
        return with_extra_tokens(self.trace.share, self.joining)

    def mix(self, matrix: Tensor) -> Tensor:
        share = self.skip()
        return torch.cat((mix_heads(matrix, share), share[:, 1:]), dim=1)
