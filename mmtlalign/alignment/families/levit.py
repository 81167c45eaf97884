"""LeViT of mmpretrain (arXiv 2104.01136): attention in a pyramid."""

from torch import Tensor, nn

from mmtlalign.interception import find_class

from ..sites import CaughtAttention, Site, Start, of_map
from . import Family, register_family, stock

MIXERS = ('mmpretrain.Attention', 'mmpretrain.AttentionSubsample')


@register_family('mmpretrain.LeViT')
class LeViT(Family):
    """Attention with bias. That between stages subsamples its queries and has no residual: ``s <-
    mean_heads(A) s``."""

    def __init__(self, backbone: nn.Module) -> None:
        stages: list[list[Site]] = [[] for _ in backbone.stages]
        for sites, stage in zip(stages, backbone.stages):
            for block in stage:
                stock(backbone, block, 'mmpretrain.Residual', 'mmpretrain.AttentionSubsample')
                inner = getattr(block, 'block', block)
                stock(backbone, inner, *MIXERS, 'mmpretrain.MLP')
                if find_class(inner, *MIXERS):
                    sites.append((Subsampling if inner is block else CaughtAttention)(inner))
        self.lay_out(Start(backbone.patch_embed, grid_of=of_map), stages, backbone.out_indices)


class Subsampling(CaughtAttention):
    """Fewer tokens come out than went in, and nothing is added."""

    def skip(self) -> None:
        return None

    def mix(self, matrix: Tensor) -> Tensor:
        mixed = super().mix(matrix)
        self.trace.grid = (self.module.sub_resolution,) * 2
        return mixed
