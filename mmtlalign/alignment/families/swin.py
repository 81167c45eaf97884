"""Swin Transformer of mmpretrain, v1 and v2.

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) inside each
window, and the mean over merged tokens in patch merging. The paper gives the
principle for hierarchical backbones; no code was published for them.
"""
from torch import Tensor, nn

from ..sites import (
    Branch,
    Cells,
    Merging,
    Site,
    StandInSelf,
    Start,
    WindowAttention,
)
from . import Family, find_class, name_of, register_family, stock


@register_family('mmpretrain.SwinTransformer', 'mmpretrain.SwinTransformerV2')
class Swin(Family):
    """Blocks mix tokens inside (shifted) windows, stages merge tokens.

    Refuses mergings whose cells overlap, leave gaps or lie wholly in padding.
    """

    def __init__(self, backbone: nn.Module) -> None:
        stages = [[_attention(backbone, block) for block in stage.blocks]
                  for stage in backbone.stages]
        mergings = [[] if stage.downsample is None else
                    [_merging(backbone, stage.downsample)]
                    for stage in backbone.stages]
        if find_class(backbone, 'mmpretrain.SwinTransformerV2'):
            stages = [a + b for a, b in zip(mergings, stages)]
        elif getattr(backbone, 'out_after_downsample', False):
            stages = [a + b for a, b in zip(stages, mergings)]
        else:  # what is read of a stage has not been merged
            stages = [a + b for a, b in zip([[], *mergings], stages)]
        self.lay_out(Start(backbone.patch_embed), stages,
                     backbone.out_indices)


class ShiftedCut:
    """The stock geometry (padding, shift, partition), run over numbers.

    Args:
        attn (nn.Module): A ``ShiftWindowMSA``.
    """

    def __init__(self, attn: nn.Module) -> None:
        self.attn = attn

    def __call__(self, numbers: Tensor) -> Tensor:
        seen, attn = [], self.attn

        def attend(windows: Tensor, mask=None) -> Tensor:
            seen.append(windows.flatten(1))
            return windows

        type(attn).forward(StandInSelf(
            window_size=attn.window_size, shift_size=attn.shift_size,
            pad_small_map=attn.pad_small_map,
            window_partition=attn.window_partition,
            window_reverse=attn.window_reverse, w_msa=attend, drop=_same,
            get_attn_mask=_no_mask), numbers.view(1, -1, 1),
            tuple(numbers.shape))
        return seen[0]


def _same(x: Tensor) -> Tensor:
    return x


def _no_mask(*args, **kwargs) -> None:
    return None


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    stock(backbone, block, 'mmpretrain.SwinBlock', 'mmpretrain.SwinBlockV2')
    w_msa, cut = stock_windows(backbone, block.attn)
    is_v2 = find_class(block, 'mmpretrain.SwinBlockV2')
    return WindowAttention(w_msa, cut, Branch(
        block, w_msa.proj, norm=block.norm1 if is_v2 else None))


def stock_windows(backbone: nn.Module,
                  attn: nn.Module) -> tuple[nn.Module, ShiftedCut]:
    """What attends inside windows, and how they are cut; refuses what is not
    stock."""
    stock(backbone, attn, 'mmpretrain.ShiftWindowMSA')
    return stock(
        backbone, attn.w_msa, 'mmpretrain.WindowMSA', 'mmpretrain.WindowMSAV2',
        'mmpretrain.DaViTWindowMSA'), ShiftedCut(attn)


def _merging(backbone: nn.Module, merging: nn.Module) -> Merging:
    stock(backbone, merging, 'mmcv.PatchMerging', 'mmpretrain.PatchMerging')
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
