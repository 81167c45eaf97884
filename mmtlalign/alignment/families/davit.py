"""DaViT of mmpretrain (arXiv 2204.03645).

Attention over channels mixes no tokens, and position encodings are convolutions with signed
weights: both move nothing.
"""

from torch import nn

from ..sites import Cells, Merging, Site, Start
from . import Family, register_family, stock
from .swin import require, shifted_windows


@register_family('mmpretrain.DaViT')
class DaViT(Family):
    """Blocks mix tokens inside windows; convolutions, not dilated ones, merge them after stages."""

    def __init__(self, backbone: nn.Module) -> None:
        stages: list[list[Site]] = []
        merging: list[Site] = []
        for stage in backbone.stages:
            stages.append(merging + [_attention(backbone, block) for block in stage.blocks])
            if stage.downsample is not None:
                merging = [_merging(backbone, stage.downsample)]
        self.lay_out(Start(backbone.patch_embed), stages, backbone.out_indices)


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    parts = dict(spatial_block='mmpretrain.SpatialBlock', channel_block='mmpretrain.ChannelBlock')
    stock(backbone, block, 'mmpretrain.DaViTBlock', **parts)
    return shifted_windows(backbone, block.spatial_block.attn)


def _merging(backbone: nn.Module, merging: nn.Module) -> Merging:
    convolution = stock(backbone, merging, 'mmpretrain.DaViTDownSample').projection
    require(backbone, merging, convolution, dilation=(1, 1))
    # The host's adaptive padding never pads the map: it is given (B, N, C).
    return Merging(merging, Cells(convolution))
