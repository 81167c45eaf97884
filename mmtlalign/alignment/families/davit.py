"""DaViT of mmpretrain (arXiv 2204.03645).

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) inside each
window, as in Swin Transformers. Attention over channels mixes no tokens, and
position encodings are convolutions with signed weights: both move nothing.
"""
from torch import nn

from ..sites import Cells, Merging, Start, WindowAttention
from . import Family, name_of, register_family, stock
from .swin import stock_windows


@register_family('mmpretrain.DaViT')
class DaViT(Family):
    """Blocks mix tokens inside windows, convolutions merge them after
    stages; refuses dilated ones."""

    def __init__(self, backbone: nn.Module) -> None:
        stages, merging = [], []
        for stage in backbone.stages:
            stages.append(merging + [
                WindowAttention(*_attention(backbone, block))
                for block in stage.blocks])
            if stage.downsample is not None:
                merging = [_merging(backbone, stage.downsample)]
        self.lay_out(Start(backbone.patch_embed), stages,
                     backbone.out_indices)


def _attention(backbone: nn.Module, block: nn.Module):
    stock(backbone, block, 'mmpretrain.DaViTBlock')
    stock(backbone, block.spatial_block, 'mmpretrain.SpatialBlock')
    stock(backbone, block.channel_block, 'mmpretrain.ChannelBlock')
    return stock_windows(backbone, block.spatial_block.attn)


def _merging(backbone: nn.Module, merging: nn.Module) -> Merging:
    stock(backbone, merging, 'mmpretrain.DaViTDownSample')
    if merging.projection.dilation != (1, 1):
        raise ValueError(
            f'{name_of(backbone, merging)} merges with dilation '
            f'{merging.projection.dilation}; only (1, 1) is supported.')
    # The host's adaptive padding never pads the map: it is given (B, N, C).
    return Merging(merging, Cells(merging.projection))
