"""MViT v2 of mmpretrain (arXiv 2112.01526).

Shares of keys take the mean over what their pooling takes together, and so do those of the
residual, though the host takes its maximum there. Queries that are added to the output move
nothing.
"""

from torch import Tensor, nn

from ..sites import CaughtAttention, Cells, Site, Start
from . import Family, register_family, stock


@register_family('mmpretrain.MViT')
class MViT(Family):
    """Every block mixes all tokens; some of them leave fewer tokens."""

    def __init__(self, backbone: nn.Module) -> None:
        stages: list[list[Site]] = [[]]
        block_class, attn = 'mmpretrain.MultiScaleBlock', 'mmpretrain.MultiScaleAttention'
        for i, block in enumerate(backbone.blocks):
            stages[-1].append(PooledAttention(stock(backbone, block, block_class, attn=attn)))
            if i in backbone.stage_indices:  # the last of a stage
                stages.append([])
        self.lay_out(Start(backbone.patch_embed), stages[:-1], backbone.out_scales)


class PooledAttention(CaughtAttention):
    """Attention that may leave fewer tokens than it was given."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block.attn, reduction=Cells(block.attn.pool_v))
        self.pool_skip = block.pool_skip and Cells(block.pool_skip)

    def run(self, *args):
        out = super().run(*args)
        self.trace.grid = tuple(out[1])
        if self.trace.record:
            self.grid = self.trace.grid
        return out

    def skip(self) -> Tensor:
        share, grid = self.trace.share, self.trace.grid
        return self.pool_skip.pool(share, grid) if self.pool_skip else share
