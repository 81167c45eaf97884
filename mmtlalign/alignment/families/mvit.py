"""MViT v2 of mmpretrain (arXiv 2112.01526).

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) with pooled
queries, keys and values: shares of keys take the mean over what their pooling
takes together, and so do those of the residual, though the host takes its
maximum there. Queries that are added to the output move nothing.
"""
from torch import Tensor, nn

from ..sites import CaughtAttention, Cells, Start
from . import Family, check_out_indices, register_family, require_exact


@register_family('mmpretrain.MViT')
class MViT(Family):
    """Every block mixes all tokens; some of them leave fewer tokens.

    Raises:
        TypeError: A block or its attention is not the stock class.
        ValueError: An output that is never given.
    """

    def __init__(self, backbone: nn.Module) -> None:
        for block in backbone.blocks:
            require_exact(backbone, block, 'mmpretrain.MultiScaleBlock')
            require_exact(backbone, block.attn,
                          'mmpretrain.MultiScaleAttention')
        blocks = [PooledAttention(block) for block in backbone.blocks]
        self.sites = [Start(backbone.patch_embed), *blocks]
        last = check_out_indices(backbone.out_scales, backbone.num_scales)
        ends = {scale: i for i, scale in backbone.stage_indices.items()}
        self.output = blocks[ends[last]]


class PooledAttention(CaughtAttention):
    """Attention that may leave fewer tokens than it was given."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block.attn, reduction=Cells(block.attn.pool_v))
        self.pool_skip = block.pool_skip and Cells(block.pool_skip)

    def forward(self, *args):
        out = super().forward(*args)
        if self.moving:
            self.trace.grid = tuple(out[1])
            if self.trace.record:
                self.grid = self.trace.grid
        return out

    def skip(self) -> Tensor:
        share, grid = self.trace.share, self.trace.grid
        return self.pool_skip.pool(share, grid) if self.pool_skip else share
