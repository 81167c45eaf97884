"""Which tokens of a block merge into which."""

from typing import NamedTuple

import torch
from torch import Tensor


class Plan(NamedTuple):
    """Tokens that ``stay`` (B, n) in their new order, those ``gone`` (B, r) ``into`` (B, r) places
    of it, and the ``weight`` (B, N) of all."""

    stay: Tensor
    gone: Tensor
    into: Tensor
    weight: Tensor

    def sum(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, n, C)."""
        stay, gone, into = (index[..., None].expand(-1, -1, tokens.size(-1)) for index in self[:3])
        return tokens.gather(1, stay).scatter_add(1, into, tokens.gather(1, gone))

    def weighted_sum(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, n, C)."""
        return self.sum(tokens * self.weight[..., None].to(tokens.dtype))

    def mean(self, tokens: Tensor) -> Tensor:
        """Weighted means, (B, N, C) -> (B, n, C)."""
        return self.weighted_sum(tokens) / self.weighted_sum(torch.ones_like(tokens[..., :1]))
