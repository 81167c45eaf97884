"""Attention inside windows."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.windows import attend_windows
from .attention import CaughtAttention
from .branch import Branch


class WindowAttention(CaughtAttention):
    """Attention inside windows, with shares that move in each of them.

    The matrix counts samples, then windows. Padded positions carry no label:
    weights are renormalised over real tokens. Where vectors are compared,
    padding carries the mean share instead.

    Args:
        attn (nn.Module): What attends inside windows.
        cutter (int | nn.Module): Side of the windows, in tokens, or what a
            subclass cuts them by.
        branch: See :class:`AnyAttention`.
    """

    offers = frozenset({'matrix'})

    def __init__(
        self, attn: nn.Module, cutter: int | nn.Module, branch: Branch | None = None
    ) -> None:
        super().__init__(attn, branch)
        self.cutter = cutter

    def cut(self, numbers: Tensor) -> Tensor:
        """Numbers (rows, cols) of tokens, from 1 -> (windows, positions), 0
        on padding; by default below and to the right of squares."""
        (rows, cols), size = numbers.shape, self.cutter
        padded = F.pad(numbers, (0, -cols % size, 0, -rows % size))
        squares = padded.unflatten(1, (-1, size)).unflatten(0, (-1, size))
        return squares.transpose(1, 2).flatten(2).flatten(0, 1)

    def catch(self, matrix: Tensor) -> None:
        with torch.no_grad():
            tokens = self.trace.share.size(1)
            numbers = torch.arange(1, tokens + 1, device=matrix.device)
            self.numbers = self.cut(numbers.view(self.trace.grid))
        super().catch(matrix)

    def lay(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, ...) in windows (B * windows, P, ...), 0 on padding
        for shares; what else padding holds does not count."""
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


class StandInSelf:
    """The ``self`` of a stock method that cuts windows, calls ``attend`` on
    them, and reads some attributes, so that it runs over numbers.
    (``torch.compile`` knows no ``SimpleNamespace``.)"""

    def __init__(self, attend: str, **attributes) -> None:
        for name, value in (attributes | {attend: self._attend}).items():
            setattr(self, name, value)

    def _attend(self, windows: Tensor, mask=None) -> Tensor:
        self.windows = windows.flatten(1)
        return windows
