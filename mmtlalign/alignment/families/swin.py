"""Swin Transformer of mmpretrain, v1 and v2.

TL-Align gives the principle for hierarchical backbones (arXiv 2210.06455,
section 3.3); no code was published for them.
"""

from torch import Tensor, nn

from mmtlalign.interception import find_class, name_of

from ..sites import Branch, Cells, Merging, Site, StandInSelf, Start, WindowAttention
from . import Family, register_family, stock


@register_family('mmpretrain.SwinTransformer', 'mmpretrain.SwinTransformerV2')
class Swin(Family):
    """Blocks mix tokens inside (shifted) windows, stages merge tokens.

    Refuses mergings whose cells overlap, leave gaps or lie wholly in padding.
    """

    def __init__(self, backbone: nn.Module) -> None:
        stages = [
            [_attention(backbone, block) for block in stage.blocks] for stage in backbone.stages
        ]
        mergings: list[list[Site]] = [
            [] if stage.downsample is None else [_merging(backbone, stage.downsample)]
            for stage in backbone.stages
        ]
        if find_class(backbone, 'mmpretrain.SwinTransformerV2'):
            stages = [a + b for a, b in zip(mergings, stages)]
        elif getattr(backbone, 'out_after_downsample', False):
            stages = [a + b for a, b in zip(stages, mergings)]
        else:  # what is read of a stage has not been merged
            stages = [a + b for a, b in zip([[], *mergings], stages)]
        self.lay_out(Start(backbone.patch_embed), stages, backbone.out_indices)


class ShiftedWindows(WindowAttention):
    """Cut by the stock geometry (padding, shift, partition) of a
    ``ShiftWindowMSA``, run over numbers."""

    cutter: nn.Module

    def cut(self, numbers: Tensor) -> Tensor:
        msa = self.cutter
        over = StandInSelf(
            'w_msa',
            window_size=msa.window_size,
            shift_size=msa.shift_size,
            pad_small_map=msa.pad_small_map,
            drop=_same,
            window_partition=msa.window_partition,
            window_reverse=msa.window_reverse,
            get_attn_mask=_no_mask,
        )
        type(msa).forward(over, numbers.view(1, -1, 1), tuple(numbers.shape))
        return over.windows


def _same(x: Tensor) -> Tensor:
    return x


def _no_mask(*args, **kwargs) -> None:
    return None


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    stock(backbone, block, 'mmpretrain.SwinBlock', 'mmpretrain.SwinBlockV2')
    is_v2 = find_class(block, 'mmpretrain.SwinBlockV2')
    return shifted_windows(
        backbone,
        block.attn,
        Branch(block, block.attn.w_msa.proj, norm=block.norm1 if is_v2 else None),
    )


def shifted_windows(
    backbone: nn.Module, attn: nn.Module, branch: Branch | None = None
) -> ShiftedWindows:
    """The site of a ``ShiftWindowMSA`` that is stock."""
    stock(backbone, attn, 'mmpretrain.ShiftWindowMSA')
    stock(
        backbone,
        attn.w_msa,
        'mmpretrain.WindowMSA',
        'mmpretrain.WindowMSAV2',
        'mmpretrain.DaViTWindowMSA',
    )
    return ShiftedWindows(attn.w_msa, attn, branch)


def _merging(backbone: nn.Module, merging: nn.Module) -> Merging:
    stock(backbone, merging, 'mmcv.PatchMerging', 'mmpretrain.PatchMerging')
    name = name_of(backbone, merging)
    sampler = merging.sampler
    kernel, stride = tuple(sampler.kernel_size), tuple(sampler.stride)
    if kernel != stride:
        raise ValueError(
            f'{name} merges with kernel_size {kernel} and stride {stride}; '
            'shares need cells that neither overlap nor leave gaps: make them '
            'equal.'
        )
    for option, plain in (('padding', (0, 0)), ('dilation', (1, 1))):
        value = tuple(getattr(sampler, option))
        if value != plain:
            raise ValueError(
                f'{name} merges with {option} {value}; only '
                f"{plain} is supported (or padding='corner' or "
                "'same')."
            )
    return Merging(merging, Cells(sampler, merging.adaptive_padding))
