"""Attention inside windows."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.windows import attend_windows
from .attention import CaughtAttention
from .branch import Branch


class WindowAttention(CaughtAttention):
    """Attention inside windows, with shares that move in each of them.

    The matrix counts samples, then windows. Padded positions carry no label: weights are
    renormalised over real tokens. Where vectors are compared, padding carries the mean share
    instead.

    Args:
        attn (nn.Module): What attends inside windows.
        cut (int | Callable): Side of squares, in tokens, with padding below and to the right; or
            what cuts numbers (rows, cols) of tokens, from 1 -> (windows, positions), 0 on padding.
        branch: See :class:`AnyAttention`.
    """

    offers = frozenset({'matrix'})

    def __init__(self, attn: nn.Module, cut: int | Callable, branch: Branch | None = None) -> None:
        super().__init__(attn, branch)
        self.cut = cut if callable(cut) else partial(_squares, cut)

    def catch(self, matrix: Tensor) -> None:
        numbers = torch.arange(1, self.trace.share.size(1) + 1, device=matrix.device)
        self.numbers = self.cut(numbers.view(self.trace.grid))
        super().catch(matrix)

    def lay(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, ...) in windows (B * windows, P, ...), 0 on padding for shares; what else
        padding holds does not count."""
        if tokens.ndim == 2:
            return F.pad(tokens, (1, 0))[:, self.numbers].flatten(0, 1)
        places = (self.numbers - 1).clamp(min=0)
        laid = tokens.index_select(1, places.flatten())
        return laid.view(-1, places.size(1), tokens.size(2))

    def collect(self, share: Tensor) -> Tensor:
        batch, count = self.trace.share.shape
        places = self.numbers.flatten().argsort()[-count:]
        self.numbers = None
        return share.reshape(batch, -1)[:, places]

    def mix(self, matrix: Tensor) -> Tensor:
        share = self.trace.share
        mean = share.mean(dim=1, keepdim=True)
        # `valid` is 0 on padding, so padding has no weight.
        channels = torch.stack((self.lay(share - mean), self.lay(torch.ones_like(share))), dim=-1)
        mixed = attend_windows(matrix, channels)
        return mean + self.collect(mixed[..., 0] / mixed[..., 1])


def _squares(side: int, numbers: Tensor) -> Tensor:
    rows, cols = numbers.shape
    padded = F.pad(numbers, (0, -cols % side, 0, -rows % side))
    squares = padded.unflatten(1, (-1, side)).unflatten(0, (-1, side))
    return squares.transpose(1, 2).flatten(2).flatten(0, 1)
