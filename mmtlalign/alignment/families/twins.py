"""Twins of mmpretrain: PCPVT and SVT (arXiv 2104.13840).

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) with keys that
are pooled from the tokens, and inside windows. Position encodings (PEG) are
convolutions with signed weights and move nothing.
"""
from torch import nn

from ..sites import Cells, Merging, PlainWindows, Site, Start
from . import (
    Family,
    check_out_indices,
    find_class,
    name_of,
    refuse_dropout,
    register_family,
    require_exact,
)
from .vit import StockAttention, check_attention


@register_family('mmpretrain.PCPVT', 'mmpretrain.SVT')
class Twins(Family):
    """Patch embeddings merge tokens between stages; SVT mixes in windows and
    globally by turns.

    Raises:
        TypeError: A block, its attention or an embedding is not stock.
        ValueError: Attention dropout, or an output that is never given.
    """

    def __init__(self, backbone: nn.Module) -> None:
        for embed in backbone.patch_embeds:
            require_exact(backbone, embed, 'mmcv.PatchEmbed')
        first, *others = backbone.patch_embeds
        embeds = [Start(first), *(
            Merging(embed, Cells(embed.projection, embed.adaptive_padding))
            for embed in others)]
        stages = [[embed, *(_attention(backbone, block) for block in blocks)]
                  for embed, blocks in zip(embeds, backbone.stages)]
        self.sites = sum(stages, [])
        self.output = stages[
            check_out_indices(backbone.out_indices, len(stages))][-1]


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    require_exact(backbone, block, 'mmpretrain.GSAEncoderLayer',
                  'mmpretrain.LSAEncoderLayer')
    attn = block.attn
    if find_class(block, 'mmpretrain.GSAEncoderLayer'):
        check_attention(backbone, attn, 'mmpretrain.GlobalSubsampledAttention')
        return StockAttention(attn, reduction=Cells(attn.sr) if (
            attn.sr_ratio > 1) else None)
    require_exact(backbone, attn, 'mmpretrain.LocallyGroupedSelfAttention')
    refuse_dropout(name_of(backbone, attn), attn.attn_drop.p)
    return PlainWindows(attn, attn.window_size, through=attn.attn_drop)
