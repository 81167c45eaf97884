"""Attention over all tokens, by its tensors or by its matrix."""
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..kernels import (
    choose_kernel,
    fused_share_attention,
    separate_share_attention,
)
from ..kernels.separate import attend_rows
from ..recomputation import inside_checkpoint
from .base import Site, StandIn
from .branch import Branch
from .merging import Cells


class AnyAttention(Site):
    """Attention, whose branch may be held against the residual stream.

    Args:
        attn (nn.Module): The attention module.
        branch (Branch, optional): How it is added to the residual stream.
            Defaults to None, which offers propagations the shares alone.
        reduction (Cells, optional): How keys and values were pooled from the
            tokens. Defaults to None, not at all.
    """
    offers = frozenset({'matrix', 'rows'})

    def __init__(self, attn: nn.Module, branch: Branch | None = None,
                 reduction: Cells | None = None) -> None:
        super().__init__()
        self.attn = attn
        self.branch = branch
        self.reduction = reduction
        if branch is not None:
            self.offers = self.offers | branch.offers
        if reduction is not None:  # what is attended to are no patches
            self.offers = self.offers - {'rows'}

    def stand_ins(self) -> Iterator[StandIn]:
        if self.trace.propagation.needs_parts:
            block, proj = self.branch.block, self.branch.proj
            self.stock_block, self.stock_proj = block.forward, proj.forward
            yield block, 'forward', self.forward_block
            yield proj, 'forward', self.project

    def forward_block(self, residual: Tensor, *args, **kwargs):
        if self.moving:
            self.residual = residual.detach()
        return self.stock_block(residual, *args, **kwargs)

    def project(self, attended: Tensor) -> Tensor:
        out = self.stock_proj(attended)
        if self.moving:
            self._compare(out.detach())
        return out

    def key_share(self) -> Tensor:
        """Shares (B, M) of the keys: those of the tokens, or pooled."""
        share = self.trace.share
        if self.reduction is None:
            return share
        with torch.no_grad():
            return self.reduction.pool(share, self.trace.grid)

    def lay(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, ...) as the projection is given them."""
        return tokens

    def collect(self, share: Tensor) -> Tensor:
        """The same backwards."""
        return share

    def carry(self, attend: Callable, value: Tensor, mean: Tensor,
              deviation: Tensor, mixed: Tensor) -> None:
        """Keep what the values of the own image become.

        Args:
            attend (Callable): ``A @ value`` of a value (B, H, M, D).
            value (Tensor): (B, H, M, D).
            mean (Tensor): (B, 1), of all shares.
            deviation (Tensor): (B, M), of shares from it.
            mixed (Tensor): (B, N), attended deviation.
        """
        carried = attend(deviation.to(value.dtype)[:, None, :, None] * value)
        # heads may be wider than what is projected, where tokens are merged
        width = self.branch.proj.in_features // carried.size(1)
        carried = carried[..., :width].transpose(1, 2).flatten(2)
        self.carried = carried, mean, deviation, mixed

    def _compare(self, projected: Tensor) -> None:
        carried, mean, deviation, mixed = self.carried
        rows = slice(mixed.size(1))
        with torch.no_grad(), torch.autocast(
                mixed.device.type, enabled=False):
            residual = self.residual.reshape(*self.trace.share.shape, -1)
            deviation = deviation[:, rows]
            parts = self.branch.split(
                self.lay(residual)[:, rows], projected[:, rows], carried,
                deviation, mixed, mean)
            share = self.trace.propagation(
                deviation + mean, mixed + mean, parts)
        self.residual = self.carried = None
        self.move(self.collect(share))

    def watch(self, rows: Tensor, attended: Callable) -> None:
        """Keep what tokens attend to, if this is what the trace watches.

        Args:
            rows (Tensor): (B, H, N, ...), of all tokens.
            attended (Callable): Such rows of some tokens -> (B, n, M).
        """
        trace = self.trace
        if trace.watch is None or self is not trace.family.output:
            return
        extra = trace.family.num_extra_tokens
        rows = rows[:, :, :1] if trace.watch == 'class' else rows[:, :, extra:]
        weights = attended(rows)[..., extra:]
        self.seen = weights.float().mean(dim=1), trace.grid


class Attention(AnyAttention):
    """Multi-head attention whose query, key and value are at hand.

    Subclasses replace what computes it by :meth:`attend`.

    Args:
        attn, branch, reduction: See :class:`AnyAttention`.
    """
    _limit: int | None = None

    def use(self, device: torch.device) -> None:
        """One kernel and one set of buffers for all blocks and steps."""
        kernels = self.trace.scratch.setdefault('kernels', {})
        if device not in kernels:
            kernel = choose_kernel(device)
            kernels[device] = partial(kernel, buffers={}) if (
                kernel is fused_share_attention) else kernel
        self.kernel = kernels[device]

    def limit(self, num_rows: int | None) -> None:
        self._limit = num_rows

    @property
    def num_rows(self) -> int | None:
        """int, optional: How many leading tokens need a share. All while
        compiling, as layers share compiled code."""
        return None if torch.compiler.is_compiling() else self._limit

    def attend(self, stock: Callable, query: Tensor, key: Tensor,
               value: Tensor, scale: float | None = None) -> Tensor:
        """Features of attention, and its shares on the way.

        Args:
            stock (Callable): The stock call, without arguments.
            query (Tensor): (B, H, N, D).
            key, value (Tensor): (B, H, M, D).
            scale (float, optional): Of the scores. Defaults to None, one over
                the root of D.
        """
        propagation, share = self.trace.propagation, self.trace.share
        keys = self.key_share()
        self.watch(query, lambda rows: attend_rows(rows, key, scale))
        if self.num_rows is None:
            kernel = separate_share_attention if inside_checkpoint() else (
                self.kernel)
            out, mixed = kernel(query, key, value, keys, scale)
        else:
            out = stock()
            query = query[:, :, :self.num_rows]
            share = share[:, :self.num_rows]
            # no product of matrices, which autocast would round
            mixed = (attend_rows(query, key, scale) * keys[:, None]).sum(-1)
        if propagation.needs_parts:
            with torch.no_grad():
                mean = keys.mean(dim=1, keepdim=True)
                self.carry(
                    lambda own: F.scaled_dot_product_attention(
                        query, key, own, scale=scale),
                    value, mean, keys - mean, mixed - mean)
        else:
            self.move(propagation(share, mixed))
        return out


class CaughtAttention(AnyAttention):
    """Attention whose matrix is caught on its way through the stock call:
    where it passes the module ``attn_drop`` if there is one, else as the
    result of the softmax.

    The matrix is (..., H, N, M) with leading axes that count samples, or
    (B * H, N, M).

    Args:
        attn (nn.Module): Its ``forward`` computes the softmax once. Beside
            ``branch`` it needs ``qkv``, which gives query, key and value side
            by side.
        branch, reduction: See :class:`AnyAttention`.
        has_residual (bool): Whether what comes out is added to what went in.
            Defaults to True.
    """

    def __init__(self, attn: nn.Module, branch: Branch | None = None,
                 reduction: Cells | None = None,
                 has_residual: bool = True) -> None:
        super().__init__(attn, branch, reduction)
        self.has_residual = has_residual

    def stand_ins(self) -> Iterator[StandIn]:
        yield from super().stand_ins()
        self.stock = self.attn.forward
        self.through = getattr(self.attn, 'attn_drop', None)
        if isinstance(self.through, nn.Module):
            self.stock_through = self.through.forward
            yield self.through, 'forward', self.pass_through
        if self.trace.propagation.needs_parts:
            self.stock_qkv = self.attn.qkv.forward
            yield self.attn.qkv, 'forward', self.keep_qkv
        yield self.attn, 'forward', self.forward

    def pass_through(self, matrix: Tensor) -> Tensor:
        if self.moving:
            self.catch(matrix)
        return self.stock_through(matrix)

    def catch_softmax(self, softmax: Callable, *args, **kwargs) -> Tensor:
        matrix = softmax(*args, **kwargs)
        self.catch(matrix)
        return matrix

    def keep_qkv(self, tokens: Tensor) -> Tensor:
        out = self.stock_qkv(tokens)
        if self.moving:
            self.value = out.detach().chunk(3, dim=-1)[2]
        return out

    def forward(self, *args, **kwargs):
        if not self.moving:
            return self.stock(*args, **kwargs)
        self.arguments, self.value = args, None
        if isinstance(self.through, nn.Module):
            out = self.stock(*args, **kwargs)
        else:
            with Intercept(self.catch_softmax, *SOFTMAX):
                out = self.stock(*args, **kwargs)
        self.arguments = self.value = None
        return out

    def catch(self, matrix: Tensor) -> None:
        """Move the shares by the matrix that was just computed."""
        propagation = self.trace.propagation
        with torch.no_grad(), torch.autocast(
                matrix.device.type, enabled=False):
            matrix = matrix.detach()
            matrix = matrix.unflatten(0, (-1, self.attn.num_heads)) if (
                matrix.ndim == 3) else matrix.flatten(0, -4)
            self.watch(matrix, lambda rows: rows.float().mean(dim=1))
            if propagation.needs_parts:
                share = self.trace.share
                mean = share.mean(dim=1, keepdim=True)
                deviation = self.lay(share - mean)
                if len(deviation) > len(mean):  # windows, sample by sample
                    mean = mean.repeat_interleave(
                        len(deviation) // len(mean), dim=0)
                self.carry(matrix.float().matmul, self.values().float(), mean,
                           deviation, mix_heads(matrix, deviation))
            else:
                skip = self.skip() if self.has_residual else None
                self.move(propagation(skip, self.mix(matrix)))

    def values(self) -> Tensor:
        """(B, H, M, D)."""
        attn, value = self.attn, self.value
        if value is None:  # the host applies the weight past the module
            bias = getattr(attn, 'v_bias', None)
            if bias is None and attn.qkv.bias is not None:
                bias = attn.qkv.bias.chunk(3)[2]
            weight = attn.qkv.weight.chunk(3)[2]
            value = F.linear(
                self.arguments[0].detach().to(weight.dtype), weight, bias)
        return value.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)

    def skip(self) -> Tensor:
        """Shares (B, N) of what the branch is added to."""
        return self.trace.share

    def mix(self, matrix: Tensor) -> Tensor:
        """Attended shares (B, N) of a matrix (B, H, N, M)."""
        return mix_heads(matrix, self.key_share())


def mix_heads(matrix: Tensor, share: Tensor) -> Tensor:
    """``mean_heads(A) @ share``: (B, H, N, M), (B, M) -> (B, N).

    Centred, so that a constant share stays constant in any precision; heads
    are averaged after the product, which reads the matrix only once.
    """
    mean = share.mean(dim=1, keepdim=True)
    deviation = (share - mean).to(matrix.dtype)[:, None, :, None]
    return mean + (matrix @ deviation)[..., 0].float().mean(dim=1)


SOFTMAX = (Tensor.softmax, torch.softmax, F.softmax)


class Intercept(TorchFunctionMode):
    """Inside it, calls of some functions go to ``instead(function, *args)``.

    Args:
        instead (Callable): What is called with the function and its
            arguments.
        functions (Callable): Of torch.
    """

    def __init__(self, instead: Callable, *functions: Callable) -> None:
        super().__init__()
        self.instead = instead
        self.functions = functions

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in self.functions:
            return self.instead(func, *args, **kwargs)
        return func(*args, **kwargs)
