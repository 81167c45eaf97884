"""PVT and PVTv2 of mmdet (arXiv 2102.12122, 2106.13797), MiT of mmseg (arXiv
2105.15203).

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) with keys that
are pooled from the tokens. Convolutions inside MLPs have signed weights and
move nothing.
"""
from torch import nn

from ..sites import CaughtAttention, Cells, Merging, Site, Start
from . import (
    Family,
    check_out_indices,
    name_of,
    refuse_dropout,
    register_family,
    require_exact,
)


@register_family('mmdet.PyramidVisionTransformer',
                 'mmdet.PyramidVisionTransformerV2',
                 'mmseg.MixVisionTransformer')
class PVT(Family):
    """Patch embeddings, which may overlap, merge tokens between stages.

    Raises:
        TypeError: A block, its attention or an embedding is not stock.
        ValueError: Attention dropout, or an output that is never given.
    """

    def __init__(self, backbone: nn.Module) -> None:
        stages: list[list[Site]] = []
        for embed, blocks, _ in backbone.layers:
            require_exact(backbone, embed, 'mmdet.PatchEmbed',
                          'mmseg.PatchEmbed')
            stages.append([
                Merging(embed, Cells(embed.projection, embed.adap_padding))
                if stages else Start(embed),
                *(_attention(backbone, block) for block in blocks
                  if hasattr(block, 'attn'))])  # not position embeddings
        self.sites = sum(stages, [])
        self.output = stages[
            check_out_indices(backbone.out_indices, len(stages))][-1]


class ReturnedMatrix(CaughtAttention):
    """``nn.MultiheadAttention``, which returns the head mean (B, N, M) of its
    matrix beside the features."""

    def forward(self, *args, **kwargs):
        out = self.stock(*args, **kwargs)
        if self.moving:
            self.catch(out[1][:, None])
        return out


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    require_exact(backbone, block, 'mmdet.PVTEncoderLayer',
                  'mmseg.TransformerEncoderLayer')
    attn = block.attn
    require_exact(backbone, attn, 'mmdet.SpatialReductionAttention',
                  'mmseg.EfficientMultiheadAttention')
    require_exact(backbone, attn.attn, 'torch.MultiheadAttention')
    refuse_dropout(name_of(backbone, attn.attn), attn.attn.dropout)
    return ReturnedMatrix(attn.attn, reduction=Cells(attn.sr) if (
        attn.sr_ratio > 1) else None)
