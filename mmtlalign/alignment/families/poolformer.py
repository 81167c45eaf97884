"""PoolFormer of mmpretrain (arXiv 2111.11418).

Pooling stands where attention does, ``x + (P x - x)`` with layer scale. Our
reading, which no paper gives: P is the matrix that mixes, so ``s <- (s + P s)
/ 2``, over the real neighbours only (``count_include_pad=False``).
"""
from torch import nn

from ..sites import Cells, Merging, PoolingMixer, Start, of_map
from . import (
    Family,
    check_out_indices,
    find_class,
    register_family,
    require_exact,
)


@register_family('mmpretrain.PoolFormer')
class PoolFormer(Family):
    """Blocks pool their neighbours, stages merge overlapping cells."""

    def __init__(self, backbone: nn.Module) -> None:
        self.sites = [Start(backbone.patch_embed, grid_of=of_map)]
        last = check_out_indices(backbone.out_indices, len(backbone.network))
        for i, stage in enumerate(backbone.network):
            if find_class(stage, 'mmpretrain.PatchEmbed'):
                require_exact(backbone, stage, 'mmpretrain.PatchEmbed')
                self.sites.append(Merging(stage, Cells(stage.proj)))
            else:
                for block in stage:
                    require_exact(backbone, block,
                                  'mmpretrain.PoolFormerBlock')
                    mixer = block.token_mixer
                    require_exact(backbone, mixer, 'mmpretrain.Pooling')
                    self.sites.append(PoolingMixer(mixer, Cells(mixer.pool)))
            if i == last:
                self.output = self.sites[-1]
