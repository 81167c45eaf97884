"""Attention over all tokens, by its tensors or by its matrix."""
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..kernels import attend_rows, carry_values, centred
from .base import Site, StandIn
from .branch import Branch
from .merging import Cells


class Compared(Site):
    """Attention whose branch can be held against the residual stream.

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

    def key_share(self) -> Tensor:
        """Shares (B, M) of the keys: those of the tokens, or pooled."""
        share = self.trace.share
        if self.reduction is None:
            return share
        with torch.no_grad():
            return self.reduction.pool(share, self.trace.grid)

    def stand_ins(self) -> Iterator[StandIn]:
        if self.trace.needs_parts:
            block, proj = self.branch.block, self.branch.proj
            self.stock_block, self.stock_proj = block.forward, proj.forward
            yield block, 'forward', self.forward_block
            yield proj, 'forward', self.project

    def forward_block(self, residual: Tensor, *args, **kwargs):
        if self.moving:
            self.residual = residual.detach()
        return self.stock_block(residual, *args, **kwargs)

    def carry(self, carried: Tensor, mixed: Tensor) -> None:
        """Values of the own image, centred on the mean share.

        Args:
            carried (Tensor): (B, H, N, D), ``A @ (deviation * value)``.
            mixed (Tensor): (B, N), attended shares.
        """
        # heads may be wider than what is projected, see `ReducedBlock`
        width = self.branch.proj.in_features // carried.size(1)
        self.carried = carried[..., :width].transpose(1, 2).flatten(2)
        self.mixed = mixed

    def project(self, attended: Tensor) -> Tensor:
        out = self.stock_proj(attended)
        if self.moving:
            self._compare(out.detach())
        return out

    def _compare(self, projected: Tensor) -> None:
        share = self.trace.share
        rows = slice(self.mixed.size(1))
        with torch.no_grad(), torch.autocast(
                share.device.type, enabled=False):
            mean = share.mean(dim=1, keepdim=True)
            parts = self.branch.split(
                self.residual[:, rows], projected[:, rows], self.carried,
                (share - mean)[:, rows], self.mixed - mean, mean)
            share = self.trace.propagation(
                share[:, rows], self.mixed, parts)
        self.residual = self.carried = self.mixed = None
        self.move(share)


class Attention(Compared):
    """Multi-head attention whose query, key and value are at hand.

    Subclasses replace what computes it by :meth:`attend`.

    Args:
        attn, branch, reduction: See :class:`Compared`.
    """
    _limit: int | None = None

    def limit(self, num_rows: int) -> None:
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
        trace = self.trace
        share = trace.share
        keys = self.key_share()
        if trace.watches(self):
            trace.see(attend_rows(trace.watched_rows(query), key, scale))
        if self.num_rows is None:
            out, mixed, carried = trace.attend(query, key, value, keys, scale)
        else:
            out = stock()
            query = query[:, :, :self.num_rows]
            share = share[:, :self.num_rows]
            # no product of matrices, which autocast would round
            mixed = (attend_rows(query, key, scale) * keys[:, None]).sum(-1)
            if trace.needs_parts:
                carried = carry_values(query, key, value, keys, scale)
        if trace.needs_parts:
            self.carry(carried, mixed)
        else:
            self.move(trace.propagation(share, mixed))
        return out


class CaughtAttention(Compared):
    """Attention whose matrix is caught on its way through the stock call.

    Args:
        attn (nn.Module): Its ``forward`` computes the softmax once.
        through (nn.Module, optional): Part of it that the matrix (B, H, N, M)
            passes after the softmax and before any dropout. Defaults to None:
            the result of the softmax itself is caught.
        has_residual (bool): Whether what comes out is added to what went in.
            Defaults to True.
        branch, reduction: See :class:`Compared`.
        values (Callable, optional): (B, H, M, D) from ``attn`` and what its
            ``forward`` was given; asked for only beside ``branch``. Defaults
            to None.
    """

    def __init__(self, attn: nn.Module, through: nn.Module | None = None,
                 has_residual: bool = True, branch: Branch | None = None,
                 reduction: Cells | None = None,
                 values: Callable | None = None) -> None:
        super().__init__(attn, branch, reduction)
        self.through = through
        self.has_residual = has_residual
        self.values = values

    def stand_ins(self) -> Iterator[StandIn]:
        yield from super().stand_ins()
        self.stock = self.attn.forward
        if self.through is not None:
            self.stock_through = self.through.forward
            yield self.through, 'forward', self.pass_through
        yield self.attn, 'forward', self.forward

    def pass_through(self, matrix: Tensor) -> Tensor:
        if self.moving:
            self.catch(matrix)
        return self.stock_through(matrix)

    def forward(self, *args, **kwargs):
        if not self.moving:
            return self.stock(*args, **kwargs)
        self.arguments = args
        if self.through is not None:
            out = self.stock(*args, **kwargs)
        else:
            with CatchSoftmax(self.catch):
                out = self.stock(*args, **kwargs)
        self.arguments = None
        return out

    def catch(self, matrix: Tensor) -> None:
        """Move the shares by the matrix that was just computed."""
        with torch.no_grad(), torch.autocast(
                matrix.device.type, enabled=False):
            matrix = matrix.detach()
            if self.trace.watches(self):
                rows = self.trace.watched_rows(matrix)
                self.trace.see(rows.float().mean(dim=1))
            skip = self.skip() if self.has_residual else None
            mixed = self.mix(matrix)
            if self.trace.needs_parts:
                value = self.values(self.attn, *self.arguments)
                own = centred(skip, value)[0] * value
                self.carry(matrix.to(value.dtype) @ own, mixed)
            else:
                self.move(self.trace.propagation(skip, mixed))

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
    deviation, mean = centred(share, matrix)
    return mean + (matrix @ deviation)[..., 0].float().mean(dim=1)


class CatchSoftmax(TorchFunctionMode):
    """Hands the result of every softmax inside it to ``take``."""
    NAMES = (Tensor.softmax, torch.softmax, F.softmax)

    def __init__(self, take: Callable) -> None:
        super().__init__()
        self.take = take

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in self.NAMES:
            self.take(out)
        return out


class InterceptAttention(TorchFunctionMode):
    """Inside it, ``F.scaled_dot_product_attention(*args)`` is
    ``instead(stock, *args)``, ``stock`` being the function itself."""

    def __init__(self, instead: Callable) -> None:
        super().__init__()
        self.instead = instead

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self.instead(func, *args, **kwargs)
        return func(*args, **kwargs)
