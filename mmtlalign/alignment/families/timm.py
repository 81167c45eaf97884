"""ViT, DeiT, distilled DeiT, DeiT-III and Swin (v1) of timm; TL-Align (arXiv
2210.06455, section 3.3)."""
from collections.abc import Callable, Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..sites import (
    Attention,
    Branch,
    CaughtAttention,
    Cells,
    Geometry,
    InterceptAttention,
    Merging,
    Site,
    Start,
    WindowAttention,
    of_map,
)
from . import (
    Family,
    build_family,
    name_of,
    refuse_dropout,
    refuse_family,
    register_family,
    require_exact,
)

refuse_family('timm.Eva', reason='label alignment knows no attention of '
              'timm with rotary positions; use mmpretrain.ViTEVA02')
refuse_family('timm.NaFlexVit', reason='it packs images of any size behind '
              'masks, so that a batch has no grid')
refuse_family('timm.FeatureGetterNet', 'timm.FeatureListNet',
              'timm.FeatureDictNet', 'timm.FeatureHookNet',
              reason='it takes a model apart; set features_only=False')


@register_family('mmpretrain.TIMMBackbone')
def of_wrapped(backbone: nn.Module) -> Family:
    """The family of the model in mmpretrain's wrapper."""
    return build_family(backbone.timm_model)


@register_family('timm.VisionTransformer', 'timm.VisionTransformerDistilled')
class TimmViT(Family):
    """Every block mixes all tokens; class, distillation and register tokens
    stand before the patches.

    Raises:
        TypeError: A block or its attention is not the stock class.
        ValueError: Attention dropout, gates, dropped patches, or a pooling
            that is no mean of tokens.
    """

    def __init__(self, backbone: nn.Module) -> None:
        _check_pool(backbone, '', 'avg', 'token')
        require_exact(backbone, backbone.patch_embed, 'timm.PatchEmbed')
        if not isinstance(backbone.patch_drop, nn.Identity):
            raise ValueError('patch_drop_rate drops patches, and their shares '
                             'with them; set it to 0.')
        self.num_extra_tokens = backbone.num_prefix_tokens
        self.first = 0 if backbone.pool_include_prefix else (
            self.num_extra_tokens)
        if backbone.global_pool != 'avg' and self.num_extra_tokens:
            # the head averages the distilled pair; registers are not read
            self.num_rows = 2 if hasattr(backbone, 'dist_token') else 1
            self.first = 0
        self.sites = [
            Embedding(backbone.patch_embed, self.num_extra_tokens),
            *(_attention(backbone, block) for block in backbone.blocks)]
        self.output = self.sites[-1]

    def read(self, share: Tensor) -> Tensor:
        return share[:, self.first:self.num_rows].mean(dim=1)


@register_family('timm.SwinTransformer')
class TimmSwin(Family):
    """Stages merge tokens, then blocks mix them inside (shifted) windows.

    Raises:
        TypeError: A block, its attention or a merging is not the stock class.
        ValueError: Attention that has dropout or is fused, or a pooling that
            is not the mean.
    """

    def __init__(self, backbone: nn.Module) -> None:
        _check_pool(backbone, '', 'avg')
        self.sites = [Embedding(backbone.patch_embed)]
        for stage in backbone.layers:
            if not isinstance(stage.downsample, nn.Identity):
                require_exact(backbone, stage.downsample, 'timm.PatchMerging')
                self.sites.append(Merging(
                    stage.downsample, Cells(nn.AvgPool2d(2), pad_to_even)))
            self.sites += [_windows(backbone, block)
                           for block in stage.blocks]
        self.output = self.sites[-1]


class Embedding(Start):
    """A ``PatchEmbed``, whose projection returns the map."""

    def __init__(self, embed: nn.Module, num_extra_tokens: int = 0) -> None:
        super().__init__(embed.proj, num_extra_tokens, of_map)
        self.embed = embed

    def first_grid(self, images: Tensor) -> tuple[int, int]:
        return tuple(self.embed.dynamic_feat_size(images.shape[-2:]))


def _check_pool(backbone: nn.Module, *known: str) -> None:
    if backbone.global_pool not in known:
        raise ValueError(
            f'global_pool={backbone.global_pool!r} weighs tokens in a way '
            f'that shares cannot follow; use {known[-1]!r}.')


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    require_exact(backbone, block, 'timm.Block')
    attn, name = block.attn, name_of(backbone, block.attn)
    require_exact(backbone, attn, 'timm.Attention')
    refuse_dropout(name, attn.attn_drop.p)
    if attn.gate is not None:
        raise ValueError(f'{name} gates its output, so that the rows of '
                         'attention no longer sum to one; set gated=False.')
    # a norm between values and projection would not be linear
    branch = Branch(block, attn.proj, block.ls1) if isinstance(
        attn.norm, nn.Identity) else None
    if attn.fused_attn:
        return FusedAttention(attn, branch)
    return CaughtAttention(attn, attn.attn_drop, branch=branch, values=values)


class FusedAttention(Attention):
    """Stands in for ``F.scaled_dot_product_attention`` inside ``forward``."""

    def stand_ins(self) -> Iterator:
        yield from super().stand_ins()
        self.stock = self.attn.forward
        yield self.attn, 'forward', self.forward

    def forward(self, *args, **kwargs) -> Tensor:
        if not self.moving:
            return self.stock(*args, **kwargs)
        with InterceptAttention(self.instead):
            return self.stock(*args, **kwargs)

    def instead(self, stock, query: Tensor, key: Tensor, value: Tensor,
                attn_mask=None, dropout_p=0., is_causal=False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise ValueError('shares cannot follow fused attention with a '
                             'mask; call the backbone without one.')
        refuse_dropout('attention', dropout_p)
        return self.attend(partial(stock, query, key, value), query, key,
                           value)


def values(attn: nn.Module, tokens: Tensor, *args) -> Tensor:
    """Values (B, H, M, D) of attention over tokens (B, M, C)."""
    value = attn.qkv(tokens).chunk(3, dim=-1)[2]
    return value.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)


def _windows(backbone: nn.Module, block: nn.Module) -> Site:
    require_exact(backbone, block, 'timm.SwinTransformerBlock')
    attn, name = block.attn, name_of(backbone, block.attn)
    require_exact(backbone, attn, 'timm.WindowAttention')
    refuse_dropout(name, attn.attn_drop.p)
    if attn.fused_attn:
        raise ValueError(f'{name} is fused, which hides its matrix; set '
                         'fused_attn=False (TIMM_FUSED_ATTN=1).')
    return BlockWindows(block, Branch(block, attn.proj), attn)


class BlockWindows(WindowAttention):
    """Windows that are cut by the block rather than by its attention."""
    method = '_attn'

    def cut(self, numbers: Tensor, attend: Callable) -> Tensor:
        block = self.attn
        return type(block)._attn(Geometry(
            window_size=block.window_size, window_area=block.window_area,
            shift_size=block.shift_size, dynamic_mask=False, attn_mask=None,
            attn=attend), numbers)


def pad_to_even(grid: Tensor) -> Tensor:
    """What ``PatchMerging`` does to maps of odd sizes (..., H, W)."""
    return F.pad(grid, (0, grid.size(-1) % 2, 0, grid.size(-2) % 2))
