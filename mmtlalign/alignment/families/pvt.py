"""PVT and PVTv2 of mmdet (arXiv 2102.12122, 2106.13797), MiT of mmseg (arXiv 2105.15203).

Keys are pooled from the tokens. Convolutions inside MLPs have signed weights and move nothing.
"""

from torch import nn

from ..sites import CaughtAttention, Cells, Merging, Site, Start
from . import Family, register_family, stock


@register_family(
    'mmdet.PyramidVisionTransformer',
    'mmdet.PyramidVisionTransformerV2',
    'mmseg.MixVisionTransformer',
)
class PVT(Family):
    """Patch embeddings, which may overlap, merge tokens between stages."""

    def __init__(self, backbone: nn.Module) -> None:
        stages: list[list[Site]] = []
        for embed, blocks, _ in backbone.layers:
            stock(backbone, embed, 'mmdet.PatchEmbed', 'mmseg.PatchEmbed')
            stages.append([Merging(embed, Cells(embed.projection, embed.adap_padding))])
            # position embeddings have no attention
            stages[-1] += (
                _attention(backbone, block) for block in blocks if hasattr(block, 'attn')
            )
        start = Start(stages[0].pop(0).module)
        self.lay_out(start, stages, backbone.out_indices)


class ReturnedMatrix(CaughtAttention):
    """``nn.MultiheadAttention``, which returns the head mean (B, N, M) of its matrix beside the
    features."""

    def run(self, *args, **kwargs):
        out = self.stock(*args, **kwargs)
        self.catch(out[1][:, None])
        return out


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    stock(backbone, block, 'mmdet.PVTEncoderLayer', 'mmseg.TransformerEncoderLayer')
    names = 'mmdet.SpatialReductionAttention', 'mmseg.EfficientMultiheadAttention'
    attn = stock(backbone, block.attn, *names, attn='torch.MultiheadAttention')
    return ReturnedMatrix(attn.attn, reduction=Cells(attn.sr) if attn.sr_ratio > 1 else None)
