"""Twins of mmpretrain: PCPVT and SVT (arXiv 2104.13840).

Keys are pooled from the tokens. Position encodings (PEG) are convolutions with signed weights and
move nothing.
"""

from torch import nn

from mmtlalign.interception import find_class

from ..sites import Cells, Merging, Site, Start, WindowAttention
from . import Family, register_family, stock
from .vit import StockAttention, stock_attention


@register_family('mmpretrain.PCPVT', 'mmpretrain.SVT')
class Twins(Family):
    """Patch embeddings merge tokens between stages; SVT mixes in windows and globally by turns."""

    def __init__(self, backbone: nn.Module) -> None:
        stages: list[list[Site]] = []
        for embed, blocks in zip(backbone.patch_embeds, backbone.stages):
            stock(backbone, embed, 'mmcv.PatchEmbed')
            stages.append([Merging(embed, Cells(embed.projection, embed.adaptive_padding))])
            stages[-1] += (_attention(backbone, block) for block in blocks)
        start = Start(stages[0].pop(0).module)
        self.lay_out(start, stages, backbone.out_indices)


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    stock(backbone, block, 'mmpretrain.GSAEncoderLayer', 'mmpretrain.LSAEncoderLayer')
    attn = block.attn
    if find_class(block, 'mmpretrain.GSAEncoderLayer'):
        stock_attention(backbone, attn, 'mmpretrain.GlobalSubsampledAttention')
        return StockAttention(attn, reduction=Cells(attn.sr) if attn.sr_ratio > 1 else None)
    stock(backbone, attn, 'mmpretrain.LocallyGroupedSelfAttention')
    return WindowAttention(attn, attn.window_size)
