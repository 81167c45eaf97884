"""T2T-ViT of mmpretrain (arXiv 2101.11986).

Unfolding takes the mean over the tokens of each cell. The host scales scores by its ``qk_scale``,
its own way, so that the matrix is caught.
"""

from functools import partial

from torch import Tensor, nn

from ..sites import CaughtAttention, Cells, Merging, Site, Start
from . import register_family, stock
from .vit import ViT


@register_family('mmpretrain.T2T_ViT')
class T2TViT(ViT):
    """Two layers mix tokens before they are merged; then a ViT, of which alone the blocks are
    counted. In those two the value stands in for the residual."""

    def __init__(self, backbone: nn.Module) -> None:
        self.num_extra_tokens = backbone.num_extra_tokens
        blocks = [[self.site_of(backbone, layer)] for layer in backbone.encoder]
        tokens = backbone.tokens_to_token
        layers = tokens.attention1, tokens.attention2
        first, second = (self.site_of(backbone, layer) for layer in layers)
        first.in_block = second.in_block = False
        blocks[0][:0] = [
            first,
            Merging(tokens.soft_split1, Cells(tokens.soft_split1)),
            second,
            Merging(tokens.soft_split2, Cells(tokens.soft_split2), self.num_extra_tokens),
        ]
        start = Start(tokens.soft_split0, grid_of=partial(_grid, Cells(tokens.soft_split0)))
        self.lay_out(start, blocks, backbone.out_indices)
        self.set_out_type(backbone)

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        block, attn = 'mmpretrain.T2TTransformerLayer', 'mmpretrain.MultiheadAttention'
        return CaughtAttention(stock(backbone, layer, block, attn=attn).attn)


def _grid(cells: Cells, out: Tensor, images: Tensor) -> tuple[int, int]:
    """Of ``nn.Unfold``, which returns all cells in a row."""
    rows, cols = cells.mean(images[:1, 0]).shape[1:]
    return rows, cols
