"""T2T-ViT of mmpretrain (arXiv 2101.11986).

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3); unfolding
takes the mean over the tokens of each cell. The host scales the scores of all
attention by its ``qk_scale``, its own way, so that the matrix is caught.
"""
from torch import Tensor, nn

from ..sites import CaughtAttention, Cells, Merging, Site, Start
from . import (
    check_out_indices,
    name_of,
    refuse_dropout,
    register_family,
    require_exact,
)
from .vit import ViT


@register_family('mmpretrain.T2T_ViT')
class T2TViT(ViT):
    """Two layers mix tokens before they are merged; then a ViT, of which
    alone the blocks are counted. In those two the value stands in for the
    residual.

    Raises:
        TypeError: A layer or its attention is not the stock class.
        ValueError: Attention dropout, or an output that is never given.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.out_type = backbone.out_type
        self.num_extra_tokens = backbone.num_extra_tokens
        tokens = backbone.tokens_to_token
        blocks = [_attention(backbone, layer) for layer in backbone.encoder]
        self.sites = [
            FirstSplit(tokens.soft_split0),
            _attention(backbone, tokens.attention1, in_block=False),
            Merging(tokens.soft_split1, Cells(tokens.soft_split1)),
            _attention(backbone, tokens.attention2, in_block=False),
            Merging(tokens.soft_split2, Cells(tokens.soft_split2),
                    self.num_extra_tokens), *blocks]
        self.output = blocks[
            check_out_indices(backbone.out_indices, len(blocks))]


class FirstSplit(Start):
    """``nn.Unfold`` of images, which returns all cells in a row."""

    def __init__(self, split: nn.Module) -> None:
        super().__init__(split, grid_of=self.unfolded)

    def unfolded(self, out: Tensor, images: Tensor) -> tuple[int, int]:
        split = self.module
        return tuple(
            (side + 2 * padding - kernel) // stride + 1
            for side, padding, kernel, stride in zip(
                images.shape[2:], split.padding, split.kernel_size,
                split.stride))


def _attention(backbone: nn.Module, layer: nn.Module,
               in_block: bool = True) -> Site:
    require_exact(backbone, layer, 'mmpretrain.T2TTransformerLayer')
    require_exact(backbone, layer.attn, 'mmpretrain.MultiheadAttention')
    refuse_dropout(name_of(backbone, layer.attn), layer.attn.attn_drop)
    site = CaughtAttention(layer.attn)
    site.in_block = in_block
    return site
