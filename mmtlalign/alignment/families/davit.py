"""DaViT of mmpretrain (arXiv 2204.03645).

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) inside each
window, as in Swin Transformers. Attention over channels mixes no tokens, and
position encodings are convolutions with signed weights: both move nothing.
"""
from torch import nn

from ..sites import Cells, Merging, Site, Start, WindowAttention
from . import (
    Family,
    check_out_indices,
    name_of,
    register_family,
    require_exact,
)
from .swin import check_windows


@register_family('mmpretrain.DaViT')
class DaViT(Family):
    """Blocks mix tokens inside windows, convolutions merge them after stages.

    Raises:
        TypeError: A block, its attention or a merging is not the stock class.
        ValueError: Attention dropout, a dilated merging, or an output that
            is never given.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.sites = [Start(backbone.patch_embed)]
        last = check_out_indices(backbone.out_indices, len(backbone.stages))
        for i, stage in enumerate(backbone.stages):
            self.sites += [_attention(backbone, block)
                           for block in stage.blocks]
            if i == last:
                self.output = self.sites[-1]
            if stage.downsample is not None:
                self.sites.append(_merging(backbone, stage.downsample))


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    require_exact(backbone, block, 'mmpretrain.DaViTBlock')
    require_exact(backbone, block.spatial_block, 'mmpretrain.SpatialBlock')
    require_exact(backbone, block.channel_block, 'mmpretrain.ChannelBlock')
    attn = block.spatial_block.attn
    check_windows(backbone, attn)
    return WindowAttention(attn)


def _merging(backbone: nn.Module, merging: nn.Module) -> Site:
    require_exact(backbone, merging, 'mmpretrain.DaViTDownSample')
    if merging.projection.dilation != (1, 1):
        raise ValueError(
            f'{name_of(backbone, merging)} merges with dilation '
            f'{merging.projection.dilation}; only (1, 1) is supported.')
    # The host's adaptive padding never pads the map: it is given (B, N, C).
    return Merging(merging, Cells(merging.projection))
