"""ViTSAM of mmpretrain, the image encoder of SAM (arXiv 2304.02643).

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) inside windows
and, in some blocks, over all tokens. The neck, which has convolutions, moves
nothing.
"""
from torch import Tensor, nn

from ..sites import CaughtAttention, PlainWindows, Site, Start
from . import Family, check_out_indices, register_family, require_exact


@register_family('mmpretrain.ViTSAM')
class ViTSAM(Family):
    """Blocks mix tokens inside windows or globally.

    Raises:
        TypeError: A block or its attention is not the stock class.
        ValueError: An output that is never given.
    """

    def __init__(self, backbone: nn.Module) -> None:
        blocks = [_attention(backbone, layer) for layer in backbone.layers]
        self.sites = [Start(backbone.patch_embed), *blocks]
        self.output = blocks[
            check_out_indices(backbone.out_indices, len(blocks))]


class _HeadsInBatch(CaughtAttention):
    """The matrix is (samples, windows and heads, N, N)."""

    def catch(self, matrix: Tensor) -> None:
        super().catch(matrix.unflatten(0, (-1, self.attn.num_heads)))


class SAMAttention(_HeadsInBatch):
    """Attention over all tokens."""


class SAMWindows(_HeadsInBatch, PlainWindows):
    """Attention inside windows that the block cuts."""


def _attention(backbone: nn.Module, layer: nn.Module) -> Site:
    require_exact(backbone, layer, 'mmpretrain.TransformerEncoderLayer')
    require_exact(backbone, layer.attn, 'mmpretrain.Attention')
    if layer.window_size:
        return SAMWindows(layer.attn, layer.window_size)
    return SAMAttention(layer.attn)
