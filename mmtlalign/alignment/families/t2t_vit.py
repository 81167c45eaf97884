"""T2T-ViT of mmpretrain (arXiv 2101.11986).

Unfolding takes the mean over the tokens of each cell. The host scales scores
by its ``qk_scale``, its own way, so that the matrix is caught.
"""

from functools import partial

from torch import Tensor, nn

from ..sites import CaughtAttention, Cells, Merging, Site, Start
from . import register_family, stock
from .vit import ViT


@register_family('mmpretrain.T2T_ViT')
class T2TViT(ViT):
    """Two layers mix tokens before they are merged; then a ViT, of which
    alone the blocks are counted. In those two the value stands in for the
    residual."""

    def __init__(self, backbone: nn.Module) -> None:
        self.num_extra_tokens = backbone.num_extra_tokens
        tokens = backbone.tokens_to_token
        first, second = (
            self.site_of(backbone, layer) for layer in (tokens.attention1, tokens.attention2)
        )
        first.in_block = second.in_block = False
        blocks = [[self.site_of(backbone, layer)] for layer in backbone.encoder]
        blocks[0] = [
            first,
            Merging(tokens.soft_split1, Cells(tokens.soft_split1)),
            second,
            Merging(tokens.soft_split2, Cells(tokens.soft_split2), self.num_extra_tokens),
            *blocks[0],
        ]
        split = tokens.soft_split0
        self.lay_out(Start(split, grid_of=partial(_grid, split)), blocks, backbone.out_indices)
        self.set_out_type(backbone)

    def site_of(self, backbone: nn.Module, layer: nn.Module) -> Site:
        stock(
            backbone, layer, 'mmpretrain.T2TTransformerLayer', attn='mmpretrain.MultiheadAttention'
        )
        return CaughtAttention(layer.attn)


def _grid(split: nn.Unfold, out: Tensor, images: Tensor) -> tuple[int, int]:
    """Of ``nn.Unfold``, which returns all cells in a row."""
    cells = Cells(split)
    rows, cols = (
        (side + 2 * padding - kernel) // stride + 1
        for side, padding, kernel, stride in zip(
            images.shape[2:], cells.padding, cells.kernel_size, cells.stride
        )
    )
    return rows, cols
