"""ViT, DeiT, distilled DeiT, DeiT-III and Swin (v1) of timm."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from mmtlalign.interception import FunctionInterception, StandInSelf, name_of

from ..sites import Attention, Branch, CaughtAttention, Cells, Merging, Start, WindowAttention
from . import Family, build_family, refuse_dropout, register_family, stock


@register_family('mmpretrain.TIMMBackbone')
def of_wrapped(backbone: nn.Module) -> Family:
    """The family of the model in mmpretrain's wrapper."""
    return build_family(backbone.timm_model)


@register_family('timm.VisionTransformer', 'timm.VisionTransformerDistilled')
class TimmViT(Family):
    """Every block mixes all tokens; class, distillation and register tokens stand before the
    patches. Refuses gates, dropped patches, and poolings that are no mean of tokens."""

    def __init__(self, backbone: nn.Module) -> None:
        _check_pool(backbone, '', 'avg', 'token')
        embed = stock(backbone, backbone.patch_embed, 'timm.PatchEmbed')
        if not isinstance(backbone.patch_drop, nn.Identity):
            raise ValueError('patch_drop_rate drops patches and their shares; set it to 0.')
        self.num_extra_tokens = backbone.num_prefix_tokens
        if backbone.global_pool != 'avg' and self.num_extra_tokens:
            # the head averages the distilled pair; registers are not read
            self.rows = slice(0, 2 if hasattr(backbone, 'dist_token') else 1)
        elif backbone.pool_include_prefix:
            self.rows = slice(0, None)
        blocks = [[_attention(backbone, block)] for block in backbone.blocks]
        start = Start(embed, self.num_extra_tokens, partial(_grid, embed))
        self.lay_out(start, blocks, [len(blocks) - 1])


@register_family('timm.SwinTransformer')
class TimmSwin(Family):
    """Stages merge tokens, then blocks mix them inside (shifted) windows. Refuses fused attention,
    and poolings other than the mean."""

    def __init__(self, backbone: nn.Module) -> None:
        _check_pool(backbone, '', 'avg')
        stages = []
        for stage in backbone.layers:
            sites: list = [_windows(backbone, block) for block in stage.blocks]
            if not isinstance(stage.downsample, nn.Identity):
                stock(backbone, stage.downsample, 'timm.PatchMerging')
                sites.insert(0, Merging(stage.downsample, Cells(nn.AvgPool2d(2, ceil_mode=True))))
            stages.append(sites)
        embed = backbone.patch_embed
        self.lay_out(Start(embed, grid_of=partial(_grid, embed)), stages, [len(stages) - 1])


def _grid(embed: nn.Module, tokens: Tensor, images: Tensor):
    return tuple(embed.dynamic_feat_size(images.shape[-2:]))


def _check_pool(backbone: nn.Module, *known: str) -> None:
    if backbone.global_pool not in known:
        raise ValueError(
            f'global_pool={backbone.global_pool!r} weighs tokens in a way that shares cannot '
            f'follow; use {known[-1]!r}.'
        )


def _attention(backbone: nn.Module, block: nn.Module) -> Attention | CaughtAttention:
    attn = stock(backbone, block, 'timm.Block', attn='timm.Attention').attn
    if attn.gate is not None:
        raise ValueError(
            f'{name_of(backbone, attn)} gates its output, so that the rows of attention no longer '
            'sum to one; set gated=False.'
        )
    # a norm between values and projection would not be linear
    branch = Branch(block, attn.proj, block.ls1) if isinstance(attn.norm, nn.Identity) else None
    return (FusedAttention if attn.fused_attn else CaughtAttention)(attn, branch)


class FusedAttention(Attention):
    """Stands in for ``F.scaled_dot_product_attention`` inside ``forward``."""

    def run(self, *args, **kwargs) -> Tensor:
        with FunctionInterception(self.instead, F.scaled_dot_product_attention):
            return self.stock(*args, **kwargs)

    def instead(self, stock, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
        if attn_mask is not None or is_causal:
            raise ValueError('shares cannot follow attention with a mask; leave the mask out.')
        refuse_dropout('attention', dropout_p)
        return self.attend(partial(stock, query, key, value), query, key, value)


def _windows(backbone: nn.Module, block: nn.Module) -> WindowAttention:
    attn = stock(backbone, block, 'timm.SwinTransformerBlock', attn='timm.WindowAttention').attn
    if attn.fused_attn:
        raise ValueError(
            f'{name_of(backbone, attn)} is fused, which hides its matrix; set fused_attn=False '
            '(TIMM_FUSED_ATTN=1).'
        )
    return WindowAttention(attn, partial(_cut, block), Branch(block, attn.proj))


def _cut(block: nn.Module, numbers: Tensor) -> Tensor:
    """By the stock geometry of a block."""
    over = StandInSelf(block, 'attn', dynamic_mask=False, attn_mask=None)
    type(block)._attn(over, numbers[None, :, :, None])
    return over.caught.flatten(1)
