"""Swin Transformer of mmpretrain, v1 and v2. For hierarchical backbones TL-Align gives the
principle (arXiv 2210.06455, section 3.3); no code was published for them."""

from functools import partial

from torch import Tensor, nn

from mmtlalign.interception import StandInSelf, find_class, name_of

from ..sites import Branch, Cells, Merging, Site, Start, WindowAttention
from . import Family, register_family, stock


@register_family('mmpretrain.SwinTransformer', 'mmpretrain.SwinTransformerV2')
class Swin(Family):
    """Blocks mix tokens inside (shifted) windows, stages merge them. Refuses mergings whose cells
    overlap, leave gaps or lie wholly in padding."""

    def __init__(self, backbone: nn.Module) -> None:
        stages: list[list[Site]] = []
        mergings: list[list[Site]] = []
        for stage in backbone.stages:
            stages.append([_attention(backbone, block) for block in stage.blocks])
            merging = stage.downsample
            mergings.append([] if merging is None else [_merging(backbone, merging)])
        if getattr(backbone, 'out_after_downsample', False):
            stages = [a + b for a, b in zip(stages, mergings)]
        else:
            if find_class(backbone, 'mmpretrain.SwinTransformer'):
                mergings.insert(0, [])  # what is read of a stage has not been merged
            stages = [a + b for a, b in zip(mergings, stages)]
        self.lay_out(Start(backbone.patch_embed), stages, backbone.out_indices)


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    stock(backbone, block, 'mmpretrain.SwinBlock', 'mmpretrain.SwinBlockV2')
    norm = block.norm1 if find_class(block, 'mmpretrain.SwinBlockV2') else None
    branch = Branch(block, block.attn.w_msa.proj, norm=norm)
    return shifted_windows(backbone, block.attn, branch)


def shifted_windows(backbone: nn.Module, attn: nn.Module, branch=None) -> WindowAttention:
    """The site of a ``ShiftWindowMSA`` that is stock."""
    stock(backbone, attn, 'mmpretrain.ShiftWindowMSA')
    names = 'mmpretrain.WindowMSA', 'mmpretrain.WindowMSAV2', 'mmpretrain.DaViTWindowMSA'
    return WindowAttention(stock(backbone, attn.w_msa, *names), partial(_cut, attn), branch)


def _cut(msa: nn.Module, numbers: Tensor) -> Tensor:
    """By the stock geometry (padding, shift, partition) of a ``ShiftWindowMSA``."""
    over = StandInSelf(msa, 'w_msa', drop=lambda x: x, get_attn_mask=lambda *args, **kwargs: None)
    type(msa).forward(over, numbers.view(1, -1, 1), tuple(numbers.shape))
    return over.caught.flatten(1)


def _merging(backbone: nn.Module, merging: nn.Module) -> Merging:
    sampler = stock(backbone, merging, 'mmcv.PatchMerging', 'mmpretrain.PatchMerging').sampler
    plain = dict(kernel_size=tuple(sampler.stride), padding=(0, 0), dilation=(1, 1))
    require(backbone, merging, sampler, **plain)
    return Merging(merging, Cells(sampler, merging.adaptive_padding))


def require(backbone: nn.Module, merging: nn.Module, window: nn.Module, **options: tuple) -> None:
    """Raise ValueError where a merging takes tokens together by other options."""
    for option, plain in options.items():
        if tuple(getattr(window, option)) != plain:
            raise ValueError(
                f'{name_of(backbone, merging)} merges with {option} {getattr(window, option)} and '
                f'stride {window.stride}; shares need cells that neither overlap nor leave gaps: '
                f"make it {plain} (or padding 'corner' or 'same')."
            )
