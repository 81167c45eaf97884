"""Where neighbouring tokens become one: mergings and pooling mixers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Site
from .start import with_extra_tokens


class Cells:
    """Which tokens a convolution, pooling or unfolding takes together.

    Args:
        window (nn.Module): Has ``kernel_size``, ``stride`` and ``padding``.
        padding (Callable, optional): Pads maps (B, 1, H, W) before it. Defaults to None.
    """

    def __init__(self, window: nn.Module, padding: nn.Module | None = None) -> None:
        self.sides = window.kernel_size, window.stride, window.padding
        self.adaptive = padding

    def mean(self, grid: Tensor) -> Tensor:
        """Mean over the real tokens of every cell, (B, H, W) -> (B, h, w)."""
        grid = grid[:, None]
        if self.adaptive is None:
            return F.avg_pool2d(grid, *self.sides, count_include_pad=False)[:, 0]
        # sums but for a factor; padding counts as 0
        part, whole = (
            F.avg_pool2d(self.adaptive(x), *self.sides) for x in (grid, torch.ones_like(grid))
        )
        return (part / whole)[:, 0]

    def pool(self, share: Tensor, grid: tuple[int, int]) -> Tensor:
        """The same of tokens in a row, (B, H * W) -> (B, h * w)."""
        return self.mean(share.unflatten(1, grid)).flatten(1)


class Merging(Site):
    """Tokens are merged: shares take the mean over the real ones of a cell.

    Extra tokens join before the patches afterwards; none are there before.
    """

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


class PoolingMixer(Site):
    """Pooling in the place of attention: every token takes the mean of its
    cell, less itself (PoolFormer, arXiv 2111.11418, equation 4)."""

    offers = frozenset({'matrix'})

    def __init__(self, module: nn.Module, cells: Cells) -> None:
        super().__init__(module)
        self.cells = cells

    def after(self, out, *args) -> None:
        share = self.trace.share
        mixed = self.cells.pool(share, self.trace.grid)
        self.move(self.trace.propagation(share, mixed))
