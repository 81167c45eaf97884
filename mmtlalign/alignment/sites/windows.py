"""Attention inside windows, (shifted) as Swin Transformers cut them or
plain."""
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CaughtAttention, mix_heads
from .base import Site, StandIn
from .branch import Branch


class WindowAttention(Site):
    """Runs stock window attention, then the same windows over shares.

    The stock forward sends its attention matrix through ``w_msa.softmax``,
    where it is caught; the stock geometry (padding, shift, partition) is then
    run again over a few channels. Padded positions carry no label: weights
    are renormalised over real tokens.

    Args:
        attn (nn.Module): A ``ShiftWindowMSA`` of mmpretrain.
        branch (Branch, optional): How it is added to the residual stream.
            Defaults to None.
    """

    def __init__(self, attn: nn.Module, branch: Branch | None = None) -> None:
        super().__init__()
        self.attn = attn
        self.branch = branch
        self.geometry = _Geometry(attn)
        self.offers = frozenset({'matrix'}) | (
            branch.offers if branch else frozenset())

    def stand_ins(self) -> Iterator[StandIn]:
        w_msa = self.attn.w_msa
        self.stock = self.attn.forward
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
        yield self.attn, 'forward', self.forward

    def softmax(self, scores: Tensor) -> Tensor:
        matrix = self.stock_softmax(scores)
        if self.moving:
            with torch.no_grad():
                self.matrix = matrix.detach() if self.trace.needs_parts else (
                    matrix.mean(dim=1, dtype=torch.float32))
        return matrix

    def forward(self, query: Tensor, hw_shape) -> Tensor:
        out = self.stock(query, hw_shape)
        if self.moving:
            share = self.trace.share
            with torch.no_grad(), torch.autocast(
                    share.device.type, enabled=False):
                if self.trace.needs_parts:
                    share = self._compare(share, hw_shape)
                else:
                    share = self.trace.propagation(
                        share, self._mix(share, hw_shape))
            self.matrix = None
            self.move(share)
        return out

    def _mix(self, share: Tensor, hw_shape) -> Tensor:
        channels = torch.stack((share, torch.ones_like(share)), dim=-1)
        mixed = self.geometry.run(
            channels, hw_shape, lambda windows: self.matrix @ windows)
        # `valid` is 0 on padding, so padding has no weight.
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
            self.value = _value(self.attn.w_msa, windows)
        return out

    def _compare(self, share: Tensor, hw_shape) -> Tensor:
        """The same with vectors, window by window; padding carries the mean
        share, so its deviation is 0."""
        mean = share.mean(dim=1, keepdim=True)
        self.mean = mean
        channels = torch.cat(
            (self.residual.float(), (share - mean)[..., None]), dim=-1)
        moved = self.geometry.run(channels, hw_shape, self._propagate)
        self.residual = self.value = self.projected = self.mean = None
        return moved[..., 0]

    def _propagate(self, windows: Tensor) -> Tensor:
        """Channels [residual, deviation] of all windows -> moved shares."""
        residual, deviation = windows[..., :-1], windows[..., -1]
        num_heads = self.attn.w_msa.num_heads
        own = deviation[..., None].to(self.value.dtype) * self.value
        own = own.unflatten(-1, (num_heads, -1)).transpose(1, 2)
        carried = (self.matrix @ own.to(self.matrix.dtype))
        mixed = mix_heads(self.matrix, deviation)
        # windows of one sample follow each other
        mean = self.mean.repeat_interleave(
            len(windows) // len(self.mean), dim=0)
        parts = self.branch.split(
            residual, self.projected, carried.transpose(1, 2).flatten(2),
            deviation, mixed, mean)
        moved = self.trace.propagation(deviation + mean, mixed + mean, parts)
        return F.pad(moved[..., None], (0, windows.size(-1) - 1))


@torch.no_grad()
def _value(w_msa: nn.Module, windows: Tensor) -> Tensor:
    """Values of a ``WindowMSAV2``, (windows, tokens, C)."""
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

    def __init__(self, attn: nn.Module, window_size: int,
                 through: nn.Module | None = None) -> None:
        super().__init__(attn, through)
        self.offers = frozenset({'matrix'})
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


class _Geometry:
    """What ``ShiftWindowMSA.forward`` reads of its ``self``, with attention
    replaced by any function of windows (windows, tokens, channels)."""

    def __init__(self, attn: nn.Module) -> None:
        self.stock = type(attn)
        self.attn = attn

    def run(self, channels: Tensor, hw_shape, function) -> Tensor:
        """Cut channels (B, N, C), apply the function, and put back."""
        attn = self.attn
        self.window_size = attn.window_size
        self.shift_size = attn.shift_size
        self.pad_small_map = attn.pad_small_map
        self.window_partition = self.stock.window_partition
        self.window_reverse = self.stock.window_reverse
        self.w_msa = lambda windows, mask=None: function(windows)
        out = self.stock.forward(self, channels, hw_shape)
        del self.w_msa
        return out

    def get_attn_mask(self, *args, **kwargs) -> None:
        return None

    def drop(self, x: Tensor) -> Tensor:
        return x
