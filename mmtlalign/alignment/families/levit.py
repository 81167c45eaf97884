"""LeViT of mmpretrain (arXiv 2104.01136): attention in a pyramid."""
from torch import Tensor, nn

from ..sites import CaughtAttention, Start, of_map
from . import Family, find_class, register_family, require_exact


@register_family('mmpretrain.LeViT')
class LeViT(Family):
    """Attention with bias; between stages it subsamples its queries.

    The subsampling attention has no residual: ``s <- mean_heads(A) s``.

    Raises:
        TypeError: A block or its attention is not the stock class.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.sites = [Start(backbone.patch_embed, grid_of=of_map)]
        for i, stage in enumerate(backbone.stages):
            for block in stage:
                require_exact(backbone, block, 'mmpretrain.Residual',
                              'mmpretrain.AttentionSubsample')
                attn = getattr(block, 'block', block)
                require_exact(
                    backbone, attn, 'mmpretrain.Attention', 'mmpretrain.MLP',
                    'mmpretrain.AttentionSubsample')
                if attn is block:
                    self.sites.append(Subsampling(attn, has_residual=False))
                elif not find_class(attn, 'mmpretrain.MLP'):
                    self.sites.append(CaughtAttention(attn))
            if i == max(backbone.out_indices):
                self.output = self.sites[-1]


class Subsampling(CaughtAttention):
    """Fewer tokens come out than went in."""

    def mix(self, matrix: Tensor) -> Tensor:
        mixed = super().mix(matrix)
        self.trace.grid = (self.attn.sub_resolution, ) * 2
        return mixed
