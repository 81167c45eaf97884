"""Attention over all tokens, by its tensors or by its matrix."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtlalign.interception import SOFTMAX, FunctionInterception

from ..kernels import ShareAttention, attend_rows
from ..kernels.channels import carry_values, centred
from .base import Site, StandIn
from .branch import Branch
from .embedding import Cells


class AnyAttention(Site):
    """Attention, whose branch may be held against the residual stream.

    Args:
        attn (nn.Module): The attention module.
        branch (Branch, optional): How it is added to the residual stream. Defaults to None, which
            offers propagations the shares alone.
        reduction (Cells, optional): How keys and values were pooled. Defaults to None, not at all.
    """

    offers = frozenset({'matrix', 'rows'})

    def __init__(self, attn, branch: Branch | None = None, reduction: Cells | None = None) -> None:
        super().__init__(attn)
        self.branch, self.reduction = branch, reduction
        if branch is not None:
            self.offers = self.offers | branch.offers
        if reduction is not None:  # what is attended to are no patches
            self.offers = self.offers - {'rows'}

    def stand_ins(self) -> Iterator[StandIn]:
        yield from super().stand_ins()
        if self.trace.propagation.needs_parts:
            block, proj = self.branch.block, self.branch.proj
            self.stock_block, self.stock_proj = block.forward, proj.forward
            yield block, 'forward', self.forward_block
            yield proj, 'forward', self.project

    def forward_block(self, residual: Tensor, *args, **kwargs):
        if self.trace.moving:
            self.residual = residual.detach()
        return self.stock_block(residual, *args, **kwargs)

    def project(self, attended: Tensor) -> Tensor:
        out = self.stock_proj(attended)
        if self.trace.moving:
            self._compare(out.detach())
        return out

    def key_share(self) -> Tensor:
        """Shares (B, M) of the keys: those of the tokens, or pooled."""
        share, cells = self.trace.share, self.reduction
        return share if cells is None else cells.pool(share, self.trace.grid)

    def lay(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, ...) as the projection is given them."""
        return tokens

    def collect(self, share: Tensor) -> Tensor:
        """The same backwards."""
        return share

    def carry(self, carried: Tensor, mean: Tensor, deviation: Tensor, mixed: Tensor) -> None:
        """Keep ``A @ (deviation * value)``, (B, H, N, D). Shares have a mean (B, 1), deviate from
        it by (B, M), and attended ones by ``mixed`` (B, N)."""
        # heads may be wider than what is projected, where tokens are merged
        width = self.branch.proj.in_features // carried.size(1)
        carried = carried[..., :width].transpose(1, 2).flatten(2)
        self.carried = carried, mean, deviation, mixed

    def _compare(self, projected: Tensor) -> None:
        carried, mean, deviation, mixed = self.carried
        rows = slice(mixed.size(1))
        with torch.no_grad(), torch.autocast(mixed.device.type, enabled=False):
            residual = self.lay(self.residual.reshape(*self.trace.share.shape, -1))[:, rows]
            deviation = deviation[:, rows]
            parts = self.branch.split(residual, projected[:, rows], carried, deviation, mixed, mean)
            share = self.trace.propagation(deviation + mean, mixed + mean, parts)
        self.residual = self.carried = None
        self.move(self.collect(share))

    def watch(self, rows: Tensor, attended: Callable) -> None:
        """Keep what tokens attend to, if this is what the trace watches: ``attended`` gives
        (B, n, M) for n of their rows (B, H, N, ...)."""
        trace = self.trace
        if trace.watch is None or self is not trace.family.output:
            return
        extra = trace.family.num_extra_tokens
        rows = rows[:, :, :1] if trace.watch == 'class' else rows[:, :, extra:]
        weights = attended(rows)[..., extra:]
        self.seen = weights.float().mean(dim=1), trace.grid


class Attention(AnyAttention):
    """Multi-head attention whose query, key and value are at hand; subclasses replace what
    computes it by :meth:`attend`."""

    def stand_ins(self) -> Iterator[StandIn]:
        # one, and its buffers, for all blocks and steps
        self.kernel = self.trace.scratch.setdefault('kernel', ShareAttention())
        yield from super().stand_ins()

    def attend(self, stock: Callable, query, key, value, scale=None) -> Tensor:
        """Features of attention, which ``stock()`` gives as well, and its shares on the way; see
        :mod:`mmtlalign.alignment.kernels`."""
        propagation, share, keys = self.trace.propagation, self.trace.share, self.key_share()
        parts = propagation.needs_parts
        # compiled code knows no limit, as layers share it
        rows = None if torch.compiler.is_compiling() else self.limit
        self.watch(query, lambda rows: attend_rows(rows, key, scale))
        if rows is None:
            out, mixed, carried = self.kernel(query, key, value, keys, scale, parts)
        else:
            out = stock()
            query, share = query[:, :, :rows], share[:, :rows]
            # no product of matrices, which autocast would round
            mixed = (attend_rows(query, key, scale) * keys[:, None]).sum(-1)
            carried = carry_values(query, key, value, keys, scale) if parts else None
        if parts:
            mean = keys.mean(dim=1, keepdim=True)
            self.carry(carried, mean, keys - mean, mixed - mean)
        else:
            self.move(propagation(share, mixed))
        return out


class CaughtAttention(AnyAttention):
    """Attention whose ``forward`` computes one softmax, where the matrix is caught: (..., H, N, M)
    with leading axes that count samples, or (B * H, N, M). With a ``branch``, query, key and value
    come side by side from its ``qkv``."""

    def stand_ins(self) -> Iterator[StandIn]:
        yield from super().stand_ins()
        if self.trace.propagation.needs_parts:
            self.stock_qkv = self.module.qkv.forward
            yield self.module.qkv, 'forward', self.keep_qkv

    def keep_qkv(self, tokens: Tensor) -> Tensor:
        out = self.stock_qkv(tokens)
        if self.trace.moving:
            self.value = out.detach().chunk(3, dim=-1)[2]
        return out

    def catch_softmax(self, softmax: Callable, *args, **kwargs) -> Tensor:
        matrix = softmax(*args, **kwargs)
        self.catch(matrix)
        return matrix

    def run(self, *args, **kwargs):
        self.arguments, self.value = args, None
        with FunctionInterception(self.catch_softmax, *SOFTMAX):
            out = self.stock(*args, **kwargs)
        self.arguments = self.value = None
        return out

    def catch(self, matrix: Tensor) -> None:
        """Move the shares by the matrix that was just computed."""
        propagation, matrix = self.trace.propagation, matrix.detach()
        with torch.no_grad(), torch.autocast(matrix.device.type, enabled=False):
            if matrix.ndim == 3:
                matrix = matrix.unflatten(0, (-1, self.module.num_heads))
            else:
                matrix = matrix.flatten(0, -4)
            self.watch(matrix, lambda rows: rows.float().mean(dim=1))
            if propagation.needs_parts:
                share = self.trace.share
                mean = share.mean(dim=1, keepdim=True)
                deviation = self.lay(share - mean)
                # windows, sample by sample
                mean = mean.repeat_interleave(len(deviation) // len(mean), dim=0)
                own = deviation[:, None, :, None] * self.values().float()
                self.carry(matrix.float() @ own, mean, deviation, mix_heads(matrix, deviation))
            else:
                self.move(propagation(self.skip(), self.mix(matrix)))

    def values(self) -> Tensor:
        """(B, H, M, D)."""
        attn, value = self.module, self.value
        if value is None:  # the host applies the weight past the module
            weight = attn.qkv.weight.chunk(3)[2]
            value = F.linear(self.arguments[0].detach().to(weight.dtype), weight, attn.v_bias)
        return value.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)

    def skip(self) -> Tensor | None:
        """Shares (B, N) of what the branch is added to, if anything."""
        return self.trace.share

    def mix(self, matrix: Tensor) -> Tensor:
        """Attended shares (B, N) of a matrix (B, H, N, M)."""
        return mix_heads(matrix, self.key_share())


def mix_heads(matrix: Tensor, share: Tensor) -> Tensor:
    """``mean_heads(A) @ share``: (B, H, N, M), (B, M) -> (B, N). Heads are averaged after the
    product, which reads the matrix only once."""
    deviation, mean = centred(share, matrix)
    return mean + (matrix @ deviation)[..., 0].float().mean(dim=1)
