"""Which part of an attention branch comes from the own image.

Attention is linear in the values, and so is what follows it up to the residual stream: projection,
layer scale and, given its statistics, a norm. So the branch splits into the parts of both images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Parts(NamedTuple):
    """The residual stream after a branch, and the own image's part of it.

    Attributes:
        output (Tensor): (..., N, C), float32: residual plus branch.
        own (Tensor): (..., N, C), float32: the part of ``output`` that belongs to the own image,
            less ``mean`` times ``output``.
        mean (Tensor): (..., 1), float32: what shares were centred on.
    """

    output: Tensor
    own: Tensor
    mean: Tensor


@dataclass
class Branch:
    """How attention is added to the residual stream of a block.

    Args:
        block (nn.Module): The first argument of its ``forward`` is the residual stream (B, N, C).
        proj (nn.Linear): Its output is the branch.
        scale (Callable, optional): Layer scale: multiplies every channel of the branch by a number
            of its own. Defaults to None.
        factor (float): Multiplies all of them. Defaults to 1.
        norm (nn.LayerNorm, optional): Of the branch, after the projection. Defaults to None.
    """

    block: nn.Module
    proj: nn.Linear
    scale: Callable | None = None
    factor: float = 1.0
    norm: nn.LayerNorm | None = None
    offers = frozenset({'residual', 'values', 'projection'})

    def split(self, residual, projected, carried, deviation, mixed, mean) -> Parts:
        """Residual plus branch, without stochastic depth and output dropout, which scale both
        alike, and the own image's part of it. Of the residual stream, what the projection returned
        and ``A @ (deviation * value)``, all (..., N, C), and of shares and attended shares
        (..., N) less their ``mean`` (..., 1)."""
        residual, branch = residual.float(), projected.float()
        weight, bias, factors = self.proj.weight, self.proj.bias, None
        if self.scale is not None:
            # scale the weights, which are smaller than the features
            factors = self.scale(branch.new_ones(branch.size(-1))) * self.factor
            weight = factors[:, None] * weight
            bias = None if bias is None else factors * bias
        # what is new is changed in place: temporaries are what costs here
        own = F.linear(carried, weight.to(carried.dtype)).float()
        if bias is not None:
            own.addcmul_(mixed[..., None], bias.float())
        if self.norm is not None:
            # both with the statistics of the whole; the bias in proportion
            shape, eps = self.norm.normalized_shape, self.norm.eps
            gain, shift = self.norm.weight.float(), self.norm.bias.float()
            branch, _, inverse = torch.native_layer_norm(branch, shape, gain, shift, eps)
            own.sub_(own.mean(dim=-1, keepdim=True)).mul_(inverse).mul_(gain)
            own.addcmul_(mixed[..., None], shift)
        output = residual + branch if factors is None else torch.addcmul(residual, branch, factors)
        own.addcmul_(deviation[..., None], residual)
        return Parts(output, own, mean)
