"""Swin Transformer of mmpretrain, v1 and v2.

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) inside each
window, and the mean over merged tokens in patch merging. The paper gives the
principle for hierarchical backbones; no code was published for them.
"""
from torch import nn

from ..sites import Branch, Cells, Merging, Site, Start, WindowAttention
from . import (
    Family,
    check_out_indices,
    find_class,
    name_of,
    refuse_dropout,
    register_family,
    require_exact,
)


@register_family('mmpretrain.SwinTransformer', 'mmpretrain.SwinTransformerV2')
class Swin(Family):
    """Blocks mix tokens inside (shifted) windows, stages merge tokens.

    Raises:
        TypeError: A block, its attention or a merging is not the stock class.
        ValueError: Attention dropout, or a merging whose cells overlap, leave
            gaps or lie wholly in padding.
    """

    def __init__(self, backbone: nn.Module) -> None:
        # v2 merges before the blocks of a stage, v1 after them.
        merging_first = bool(
            find_class(backbone, 'mmpretrain.SwinTransformerV2'))
        last = check_out_indices(backbone.out_indices, len(backbone.stages))
        after_merging = getattr(backbone, 'out_after_downsample', False)
        self.sites = [Start(backbone.patch_embed)]
        for i, stage in enumerate(backbone.stages):
            blocks = [_attention(backbone, block) for block in stage.blocks]
            merging = [] if stage.downsample is None else [
                merging_of(backbone, stage.downsample)]
            self.sites += merging + blocks if merging_first else blocks
            if i == last and not after_merging:
                self.output = self.sites[-1]
            self.sites += [] if merging_first else merging
            if i == last and after_merging:
                self.output = self.sites[-1]


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    require_exact(backbone, block, 'mmpretrain.SwinBlock',
                  'mmpretrain.SwinBlockV2')
    is_v2 = find_class(block, 'mmpretrain.SwinBlockV2')
    check_windows(backbone, block.attn)
    return WindowAttention(
        block.attn,
        Branch(block, block.attn.w_msa.proj,
               norm=block.norm1 if is_v2 else None))


def check_windows(backbone: nn.Module, attn: nn.Module) -> None:
    """Raise TypeError or ValueError for window attention that is not stock
    or has dropout."""
    require_exact(backbone, attn, 'mmpretrain.ShiftWindowMSA')
    require_exact(backbone, attn.w_msa, 'mmpretrain.WindowMSA',
                  'mmpretrain.WindowMSAV2', 'mmpretrain.DaViTWindowMSA')
    refuse_dropout(name_of(backbone, attn.w_msa), attn.w_msa.attn_drop.p)


def merging_of(backbone: nn.Module, merging: nn.Module) -> Merging:
    """The site of a patch merging whose cells tile the map."""
    require_exact(backbone, merging, 'mmcv.PatchMerging',
                  'mmpretrain.PatchMerging')
    name = name_of(backbone, merging)
    sampler = merging.sampler
    kernel, stride = tuple(sampler.kernel_size), tuple(sampler.stride)
    if kernel != stride:
        raise ValueError(
            f'{name} merges with kernel_size {kernel} and stride {stride}; '
            'shares need cells that neither overlap nor leave gaps: make them '
            'equal.')
    for option, plain in (('padding', (0, 0)), ('dilation', (1, 1))):
        value = tuple(getattr(sampler, option))
        if value != plain:
            raise ValueError(f'{name} merges with {option} {value}; only '
                             f"{plain} is supported (or padding='corner' or "
                             "'same').")
    return Merging(merging, Cells(sampler, merging.adaptive_padding))
