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
        blocks = dict(
            spatial_block='mmpretrain.SpatialBlock', channel_block='mmpretrain.ChannelBlock'
        )
        stages: list[list[Site]] = []
        merging: list[Site] = []
        for stage in backbone.stages:
            for block in stage.blocks:
                stock(backbone, block, 'mmpretrain.DaViTBlock', **blocks)
            attentions = (block.spatial_block.attn for block in stage.blocks)
            stages.append(merging + [shifted_windows(backbone, attn) for attn in attentions])
            if stage.downsample is not None:
                down = stock(backbone, stage.downsample, 'mmpretrain.DaViTDownSample')
                require(backbone, down, down.projection, dilation=(1, 1))
                # The host's adaptive padding never pads the map: it is given (B, N, C).
                merging = [Merging(down, Cells(down.projection))]
        self.lay_out(Start(backbone.patch_embed), stages, backbone.out_indices)
