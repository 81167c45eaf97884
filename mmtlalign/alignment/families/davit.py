"""DaViT of mmpretrain (arXiv 2204.03645).

Attention over channels mixes no tokens, and position encodings are
convolutions with signed weights: both move nothing.
"""

from torch import nn

from mmtlalign.interception import name_of

from ..sites import Cells, Merging, Site, Start
from . import Family, register_family, stock
from .swin import shifted_windows


@register_family('mmpretrain.DaViT')
class DaViT(Family):
    """Blocks mix tokens inside windows, convolutions merge them after
    stages; refuses dilated ones."""

    def __init__(self, backbone: nn.Module) -> None:
        stages: list[list[Site]] = []
        merging: list[Site] = []
        for stage in backbone.stages:
            stages.append(merging + [_attention(backbone, block) for block in stage.blocks])
            if stage.downsample is not None:
                merging = [_merging(backbone, stage.downsample)]
        self.lay_out(Start(backbone.patch_embed), stages, backbone.out_indices)


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    stock(
        backbone,
        block,
        'mmpretrain.DaViTBlock',
        spatial_block='mmpretrain.SpatialBlock',
        channel_block='mmpretrain.ChannelBlock',
    )
    return shifted_windows(backbone, block.spatial_block.attn)


def _merging(backbone: nn.Module, merging: nn.Module) -> Merging:
    stock(backbone, merging, 'mmpretrain.DaViTDownSample')
    if merging.projection.dilation != (1, 1):
        raise ValueError(
            f'{name_of(backbone, merging)} merges with dilation '
            f'{merging.projection.dilation}; only (1, 1) is supported.'
        )
    # The host's adaptive padding never pads the map: it is given (B, N, C).
    return Merging(merging, Cells(merging.projection))
