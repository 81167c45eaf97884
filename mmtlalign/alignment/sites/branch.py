"""Which part of an attention branch comes from the own image.

Attention is linear in the values, and so is what follows it up to the
residual stream: projection, layer scale and, given its statistics, a norm. So
the branch splits into the part of the own image and that of the partner.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Parts(NamedTuple):
    """The residual stream after a branch, and the own image's part of it.

    Attributes:
        output (Tensor): (..., N, C), float32: residual plus branch.
        own (Tensor): (..., N, C), float32: the part of ``output`` that
            belongs to the own image, less ``mean`` times ``output``.
        mean (Tensor): (..., 1), float32: what shares were centred on.
    """
    output: Tensor
    own: Tensor
    mean: Tensor


class Branch:
    """How attention is added to the residual stream of a block.

    Args:
        block (nn.Module): The first argument of its ``forward`` is the
            residual stream (B, N, C).
        proj (nn.Linear): Its output is the branch.
        scale (Callable | float, optional): Layer scale: a linear map of the
            branch, or a number. Defaults to None.
        norm (nn.LayerNorm, optional): Of the branch, after the projection.
            Defaults to None.
    """
    offers = frozenset({'residual', 'values', 'projection'})

    def __init__(self, block: nn.Module, proj: nn.Linear,
                 scale: Callable | float | None = None,
                 norm: nn.LayerNorm | None = None) -> None:
        self.block = block
        self.proj = proj
        self.scale = scale
        self.norm = norm

    def split(self, residual: Tensor, projected: Tensor, carried: Tensor,
              deviation: Tensor, mixed: Tensor, mean: Tensor) -> Parts:
        """Residual plus branch, and the own image's part of it.

        Without stochastic depth and output dropout, which scale both alike.

        Args:
            residual (Tensor): (..., N, C), the residual stream.
            projected (Tensor): (..., N, C), what the projection returned.
            carried (Tensor): (..., N, C), heads of ``A @ (deviation *
                value)`` side by side.
            deviation (Tensor): (..., N), shares less their mean.
            mixed (Tensor): (..., N), attended shares less their mean.
            mean (Tensor): (..., 1).
        """
        own = F.linear(carried, self.proj.weight.to(carried.dtype)).float()
        if self.proj.bias is not None:
            own = own + mixed[..., None] * self.proj.bias.float()
        projected = projected.float()
        if self.norm is not None:
            projected, own = self._normalize(projected, own, mixed)
        residual = residual.float()
        return Parts(
            output=residual + self._scaled(projected),
            own=deviation[..., None] * residual + self._scaled(own),
            mean=mean)

    def _scaled(self, branch: Tensor) -> Tensor:
        if self.scale is None:
            return branch
        if callable(self.scale):
            return self.scale(branch).float()
        return branch * self.scale

    def _normalize(self, projected: Tensor, own: Tensor,
                   mixed: Tensor) -> tuple[Tensor, Tensor]:
        """Both with the statistics of the whole; the bias in proportion."""
        norm = self.norm
        variance, centre = torch.var_mean(
            projected, dim=-1, correction=0, keepdim=True)
        weight = norm.weight.float() / (variance + norm.eps).sqrt()
        whole = (projected - centre) * weight + norm.bias.float()
        part = (own - own.mean(dim=-1, keepdim=True)) * weight
        return whole, part + mixed[..., None] * norm.bias.float()
