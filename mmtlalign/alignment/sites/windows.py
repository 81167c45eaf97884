"""Attention inside windows, (shifted) as Swin Transformers cut them or
plain."""
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.windows import attend_windows
from .attention import CaughtAttention
from .base import Site, StandIn
from .branch import Branch


class WindowAttention(Site):
    """Runs stock window attention, then moves the shares in each window.

    The stock forward sends its attention matrix through ``w_msa.softmax``,
    where it is caught; which tokens are in which window is found by running
    the stock geometry (padding, shift, partition) over their numbers. Padded
    positions carry no label: weights are renormalised over real tokens.

    Args:
        attn (nn.Module): A ``ShiftWindowMSA`` of mmpretrain.
        branch (Branch, optional): How it is added to the residual stream.
            Defaults to None.
        w_msa (nn.Module, optional): What attends inside windows. Defaults to
            None, ``attn.w_msa``.

    Attributes:
        method (str): Of ``attn``: cuts windows, attends, puts together.
    """
    method = 'forward'

    def __init__(self, attn: nn.Module, branch: Branch | None = None,
                 w_msa: nn.Module | None = None) -> None:
        super().__init__()
        self.attn = attn
        self.branch = branch
        self.w_msa = attn.w_msa if w_msa is None else w_msa
        self.offers = frozenset({'matrix'}) | (
            branch.offers if branch else frozenset())

    def stand_ins(self) -> Iterator[StandIn]:
        w_msa = self.w_msa
        self.stock = getattr(self.attn, self.method)
        self.stock_softmax = w_msa.softmax.forward
        yield w_msa.softmax, 'forward', self.softmax
        if self.trace.needs_parts:
            self.stock_block = self.branch.block.forward
            self.stock_windows = w_msa.forward
            self.stock_qkv, self.stock_proj = (
                w_msa.qkv.forward, w_msa.proj.forward)
            yield w_msa.qkv, 'forward', self.keep_qkv
            yield w_msa.proj, 'forward', self.keep_projected
            yield w_msa, 'forward', self.forward_windows
            yield self.branch.block, 'forward', self.forward_block
        yield self.attn, self.method, self.forward

    def softmax(self, scores: Tensor) -> Tensor:
        matrix = self.stock_softmax(scores)
        if self.moving:
            with torch.no_grad():
                self.matrix = matrix.detach()
        return matrix

    def forward(self, *args, **kwargs) -> Tensor:
        out = self.stock(*args, **kwargs)
        if self.moving:
            share = self.trace.share
            with torch.no_grad(), torch.autocast(
                    share.device.type, enabled=False):
                numbers, back = self._cut(share)
                if self.trace.needs_parts:
                    moved = self._compare(share, numbers)
                    share = moved.view(len(share), -1)[:, back]
                else:
                    mixed = self._mix(share, numbers)
                    share = self.trace.propagation(
                        share, mixed.view(len(share), -1)[:, back])
            self.matrix = None
            self.move(share)
        return out

    def _cut(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the tokens in every window (windows, P), counted from 1
        with 0 for padding, and where each token went (N)."""
        seen = []

        def attend(windows: Tensor, mask=None) -> Tensor:
            seen.append(windows.flatten(1))
            return torch.arange(
                windows.numel(), device=windows.device).view_as(windows)

        numbers = torch.arange(1, share.size(1) + 1, device=share.device)
        back = self.cut(numbers.view(1, *self.trace.grid, 1), attend)
        return seen[0], back.flatten()

    def cut(self, numbers: Tensor, attend: Callable) -> Tensor:
        """Run the stock geometry over numbers (1, rows, cols, 1) with
        ``attend`` in the place of attention over (windows, P, 1)."""
        attn = self.attn
        return type(attn).forward(Geometry(
            window_size=attn.window_size, shift_size=attn.shift_size,
            pad_small_map=attn.pad_small_map,
            window_partition=attn.window_partition,
            window_reverse=attn.window_reverse, w_msa=attend, drop=_same,
            get_attn_mask=_no_mask), numbers.flatten(1, 2), self.trace.grid)

    def _mix(self, share: Tensor, numbers: Tensor) -> Tensor:
        # `valid` is 0 on padding, so padding has no weight.
        valid = (numbers > 0).to(share.dtype).expand(len(share), -1, -1)
        channels = torch.stack((_gather(share, numbers), valid), dim=-1)
        mixed = attend_windows(self.matrix, channels.flatten(0, 1))
        return mixed[..., 0] / mixed[..., 1]

    # What a propagation that compares vectors asks for besides.

    def forward_block(self, residual: Tensor, *args, **kwargs):
        if self.moving:
            self.residual = residual.detach()
        return self.stock_block(residual, *args, **kwargs)

    def keep_qkv(self, windows: Tensor) -> Tensor:
        qkv = self.stock_qkv(windows)
        if self.moving:
            self.value = qkv.detach().chunk(3, dim=-1)[2]
        return qkv

    def keep_projected(self, attended: Tensor) -> Tensor:
        projected = self.stock_proj(attended)
        if self.moving:
            self.projected = projected.detach()
        return projected

    def forward_windows(self, windows: Tensor, mask=None) -> Tensor:
        self.value = None
        out = self.stock_windows(windows, mask=mask)
        if self.moving and self.value is None:
            # Swin v2 applies the weight of `qkv` past the module
            self.value = _value(self.w_msa, windows)
        return out

    def _compare(self, share: Tensor, numbers: Tensor) -> Tensor:
        """Moved shares, window by window; padding carries the mean share, so
        its deviation is 0, and what it holds itself does not count."""
        mean = share.mean(dim=1, keepdim=True)
        deviation = _gather(share - mean, numbers).flatten(0, 1)
        tokens = (numbers - 1).clamp(min=0).flatten()
        residual = self.residual.view(*share.shape, -1).index_select(1, tokens)
        carried, mixed = self._carry(deviation)
        # windows of one sample follow each other
        mean = mean.repeat_interleave(len(numbers), dim=0)
        parts = self.branch.split(
            residual.view(*deviation.shape, -1), self.projected, carried,
            deviation, mixed, mean)
        self.residual = self.value = self.projected = None
        return self.trace.propagation(deviation + mean, mixed + mean, parts)

    def _carry(self, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """``A @ (deviation * value)``, heads side by side, and the attended
        deviation."""
        matrix = self.matrix.float()
        value = self.value.unflatten(-1, (self.w_msa.num_heads, -1))
        own = value * deviation[..., None, None]
        carried = matrix @ own.transpose(1, 2)
        mixed = matrix @ deviation[:, None, :, None]
        return (carried.transpose(1, 2).flatten(2),
                mixed[..., 0].mean(dim=1))


class Geometry:
    """Stands in for the ``self`` of the method that cuts windows.

    Args:
        attributes: All that the method reads. (``torch.compile`` knows no
            ``SimpleNamespace``.)
    """

    def __init__(self, **attributes) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)


def _gather(share: Tensor, numbers: Tensor) -> Tensor:
    """Shares (B, N) at positions (windows, P); 0 at number 0."""
    return F.pad(share, (1, 0))[:, numbers]


def _same(x: Tensor) -> Tensor:
    return x


def _no_mask(*args, **kwargs) -> None:
    return None


@torch.no_grad()
def _value(w_msa: nn.Module, windows: Tensor) -> Tensor:
    """Values of a ``WindowMSAV2``, (windows, P, C)."""
    weight = w_msa.qkv.weight.chunk(3)[2]
    return F.linear(windows, weight, w_msa.v_bias)


class PlainWindows(CaughtAttention):
    """Attention inside windows without shift, padded below and to the right.

    The matrix is (..., H, n, n) with n positions of a window, row-major, and
    leading axes that count samples, then windows. Padded positions carry no
    label: weights are renormalised over real tokens.

    Args:
        attn (nn.Module): Its ``forward`` computes the softmax once.
        window_size (int): Side of a window, in tokens.
        through (nn.Module, optional): See :class:`CaughtAttention`.
    """
    offers = frozenset({'matrix'})

    def __init__(self, attn: nn.Module, window_size: int,
                 through: nn.Module | None = None) -> None:
        super().__init__(attn, through)
        self.window_size = window_size

    def mix(self, matrix: Tensor) -> Tensor:
        share, size = self.trace.share, self.window_size
        rows, cols = self.trace.grid
        mean = share.mean(dim=1, keepdim=True)
        channels = torch.stack((share - mean, torch.ones_like(share)), dim=1)
        padded = F.pad(channels.unflatten(2, (rows, cols)),
                       (0, -cols % size, 0, -rows % size))
        windows = F.unfold(padded, size, stride=size).unflatten(1, (2, -1))
        windows = windows.permute(0, 3, 2, 1).flatten(0, 1)[:, None]
        mixed = matrix.flatten(0, -4) @ windows.to(matrix.dtype)
        mixed = mixed.float().mean(dim=1)
        # `valid` is 0 on padding, so padding has no weight.
        mixed = (mixed[..., 0] / mixed[..., 1]).unflatten(0, (len(share), -1))
        mixed = F.fold(mixed.transpose(1, 2), padded.shape[2:], size,
                       stride=size)
        return mean + mixed[:, 0, :rows, :cols].flatten(1)
