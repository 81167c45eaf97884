"""Where tokens are made: of an image, or of neighbouring tokens."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Site


def second(out: tuple, *args) -> tuple[int, int]:
    """Grid of an embedding that returns (tokens, (rows, cols))."""
    return tuple(out[1])


def of_map(out: Tensor, *args) -> tuple[int, int]:
    """Grid of an embedding that returns a map (B, C, rows, cols)."""
    rows, cols = out.shape[-2:]
    return rows, cols


class Start(Site):
    """The patch embedding: tokens take the shares of their patches.

    Extra tokens start with the mean over patches (TL-Align, arXiv 2210.06455, section 3.2).

    Args:
        module (nn.Module): Whose ``forward`` turns images into tokens.
        num_extra_tokens (int): Class and other tokens. Defaults to 0.
        grid_of (Callable): (rows, cols) from what the module returned and was given. Defaults to
            :func:`second`.
    """

    in_block = False

    def __init__(self, module: nn.Module, num_extra_tokens=0, grid_of: Callable = second) -> None:
        super().__init__(module)
        self.num_extra_tokens = num_extra_tokens
        self.grid_of = grid_of

    def after(self, out, images: Tensor, *args) -> None:
        share = self.trace.begin(images, self.grid_of(out, images))
        self.move(with_extra_tokens(share.flatten(1), self.num_extra_tokens))

    def first_grid(self, images: Tensor) -> tuple[int, int]:
        """The (rows, cols) on which images would be embedded."""
        # of a copy, as batch norms of a stem would count these images
        embed = copy.deepcopy(self.module).eval()
        with torch.no_grad():
            return self.grid_of(embed(images), images)


def with_extra_tokens(share: Tensor, count: int) -> Tensor:
    """Put tokens with the mean share before those of patches (B, N)."""
    mean = share.mean(dim=1, keepdim=True)
    return torch.cat((mean.expand(-1, count), share), dim=1)


class Cells:
    """Which tokens a convolution, pooling or unfolding takes together.

    Args:
        window (nn.Module): Has ``kernel_size``, ``stride`` and ``padding``.
        padding (Callable, optional): Pads maps (B, 1, H, W) before it. Defaults to None.
    """

    def __init__(self, window: nn.Module, padding: nn.Module | None = None) -> None:
        sides = window.kernel_size, window.stride, window.padding
        self.windows = *sides, getattr(window, 'ceil_mode', False)
        self.adaptive = padding

    def mean(self, grid: Tensor) -> Tensor:
        """Mean over the real tokens of every cell, (B, H, W) -> (B, h, w)."""
        grid = grid[:, None]
        if self.adaptive is None:
            return F.avg_pool2d(grid, *self.windows, count_include_pad=False)[:, 0]
        # sums but for a factor; padding counts as 0
        part, whole = (
            F.avg_pool2d(self.adaptive(x), *self.windows) for x in (grid, torch.ones_like(grid))
        )
        return (part / whole)[:, 0]

    def pool(self, share: Tensor, grid: tuple[int, int]) -> Tensor:
        """The same of tokens in a row, (B, H * W) -> (B, h * w)."""
        return self.mean(share.unflatten(1, grid)).flatten(1)


class Merging(Site):
    """Tokens are merged: shares take the mean over the real ones of a cell. Extra tokens join
    before the patches afterwards; none are there before."""

    in_block = False

    def __init__(self, module: nn.Module, cells: Cells, num_extra_tokens: int = 0) -> None:
        super().__init__(module)
        self.cells = cells
        self.num_extra_tokens = num_extra_tokens

    def after(self, out, *args) -> None:
        trace = self.trace
        merged = self.cells.mean(trace.share.unflatten(1, trace.grid))
        trace.grid = tuple(merged.shape[1:])
        self.move(with_extra_tokens(merged.flatten(1), self.num_extra_tokens))


class PoolingMixer(Merging):
    """Pooling in the place of attention: every token takes the mean of its cell, less itself
    (PoolFormer, arXiv 2111.11418, equation 4)."""

    in_block = True
    offers = frozenset({'matrix'})

    def after(self, out, *args) -> None:
        share = self.trace.share
        mixed = self.cells.pool(share, self.trace.grid)
        self.move(self.trace.propagation(share, mixed))
