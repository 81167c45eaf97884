"""Swin Transformer of timm, first version.

The multi-head rule of TL-Align (arXiv 2210.06455, section 3.3) inside each
window, and the mean over merged tokens.
"""
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sites import (
    Branch,
    Cells,
    InterceptAttention,
    Merging,
    Site,
    Start,
    WindowAttention,
    of_map,
)
from . import (
    Family,
    name_of,
    refuse_dropout,
    register_family,
    require_exact,
)


@register_family('timm.SwinTransformer')
class TimmSwin(Family):
    """Stages merge tokens, then blocks mix them inside (shifted) windows.

    Raises:
        TypeError: A block, its attention or a merging is not the stock class.
        ValueError: Attention dropout, or a pooling that is not the mean.
    """

    def __init__(self, backbone: nn.Module) -> None:
        if backbone.global_pool not in ('', 'avg'):
            raise ValueError(
                f'global_pool={backbone.global_pool!r} weighs tokens in a way '
                "that shares cannot follow; use 'avg'.")
        self.sites = [Start(backbone.patch_embed.proj, grid_of=of_map)]
        for stage in backbone.layers:
            if not isinstance(stage.downsample, nn.Identity):
                require_exact(backbone, stage.downsample, 'timm.PatchMerging')
                self.sites.append(Merging(
                    stage.downsample, Cells(nn.AvgPool2d(2), pad_to_even)))
            self.sites += [_attention(backbone, block)
                           for block in stage.blocks]
        self.output = self.sites[-1]


def pad_to_even(grid: Tensor) -> Tensor:
    """What ``PatchMerging`` does to maps of odd sizes (..., H, W)."""
    return F.pad(grid, (0, grid.size(-1) % 2, 0, grid.size(-2) % 2))


def _attention(backbone: nn.Module, block: nn.Module) -> Site:
    require_exact(backbone, block, 'timm.SwinTransformerBlock')
    require_exact(backbone, block.attn, 'timm.WindowAttention')
    refuse_dropout(name_of(backbone, block.attn), block.attn.attn_drop.p)
    return TimmWindows(block, Branch(block, block.attn.proj), block.attn)


class TimmWindows(WindowAttention):
    """The same for a block of timm, whose attention may be fused."""
    method = '_attn'

    def stand_ins(self) -> Iterator:
        yield from super().stand_ins()
        if self.w_msa.fused_attn:
            self.stock_fused = self.w_msa.forward
            yield self.w_msa, 'forward', self.forward_fused

    def forward_fused(self, *args, **kwargs) -> Tensor:
        if not self.moving:
            return self.stock_fused(*args, **kwargs)
        with InterceptAttention(self.rebuild):
            return self.stock_fused(*args, **kwargs)

    def rebuild(self, stock, query: Tensor, key: Tensor, *args, attn_mask,
                **kwargs) -> Tensor:
        """Features of fused attention, whose small matrix is made again."""
        with torch.no_grad():
            scores = (query * self.w_msa.scale) @ key.transpose(-2, -1)
            self.keep_matrix((scores + attn_mask).softmax(dim=-1))
        return stock(query, key, *args, attn_mask=attn_mask, **kwargs)

    def cut(self, numbers: Tensor, attend: Callable) -> Tensor:
        return type(self.attn)._attn(_Geometry(self.attn, attend), numbers)


class _Geometry:
    """What ``SwinTransformerBlock._attn`` reads of its ``self``, with another
    function in the place of attention."""
    dynamic_mask = False
    attn_mask = None

    def __init__(self, block: nn.Module, attend: Callable) -> None:
        self.window_size = block.window_size
        self.window_area = block.window_area
        self.shift_size = block.shift_size
        self.attn = attend
