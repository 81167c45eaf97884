"""PoolFormer of mmpretrain (arXiv 2111.11418).

Pooling stands where attention does, ``x + (P x - x)`` with layer scale. Our reading, which no
paper gives: P is the matrix that mixes, so ``s <- (s + P s) / 2``, over the real neighbours only
(``count_include_pad=False``).
"""

from torch import nn

from mmtlalign.interception import find_class

from ..sites import Cells, Merging, PoolingMixer, Site, Start, of_map
from . import Family, register_family, stock


@register_family('mmpretrain.PoolFormer')
class PoolFormer(Family):
    """Blocks pool their neighbours, stages merge overlapping cells."""

    def __init__(self, backbone: nn.Module) -> None:
        stages = [_sites(backbone, stage) for stage in backbone.network]
        self.lay_out(Start(backbone.patch_embed, grid_of=of_map), stages, backbone.out_indices)


def _sites(backbone: nn.Module, stage: nn.Module) -> list[Site]:
    if find_class(stage, 'mmpretrain.PatchEmbed'):
        return [Merging(stock(backbone, stage, 'mmpretrain.PatchEmbed'), Cells(stage.proj))]
    for block in stage:
        stock(backbone, block, 'mmpretrain.PoolFormerBlock', token_mixer='mmpretrain.Pooling')
    return [PoolingMixer(block.token_mixer, Cells(block.token_mixer.pool)) for block in stage]
