"""EViT (arXiv 2202.07800)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmtlalign.alignment.kernels import attend_rows

from .plan import Plan
from .reduction import TokenReduction


class TokenKeeping(TokenReduction):
    """EViT (arXiv 2202.07800): some blocks keep the patches that the class token attends to (head
    mean), and fuse the others.

    These become one token, their sum weighted by that attention (without gradient); its share is
    their weighted mean. Used like :class:`TokenMerging`.

    Args:
        backbone (nn.Module): As there, with ``out_type='cls_token'``.
        keep_rate (float): Part of the patches, in (0, 1]. Defaults to 0.7.
        blocks (Sequence[int]): Which blocks. Defaults to (3, 6, 9), as published for 12.

    Raises:
        TypeError: Another family of backbones.
        ValueError: Another ``out_type``, ``keep_rate`` or block.
    """

    def __init__(
        self, backbone: nn.Module, keep_rate: float = 0.7, blocks: Sequence[int] = (3, 6, 9)
    ) -> None:
        super().__init__(backbone)
        depth = len(self.sites)
        if not 0 < keep_rate <= 1 or not set(blocks) <= set(range(depth)):
            raise ValueError(
                f'keep_rate={keep_rate} must lie in (0, 1], and blocks={tuple(blocks)} in 0 to '
                f'{depth - 1}.'
            )
        self.amounts = [keep_rate * (i in blocks) for i in range(depth)]

    reduce = staticmethod(Plan.weighted_sum)

    def plan(self, query: Tensor, key: Tensor, size: Tensor, amount: float) -> Plan | None:
        extra = self.family.num_extra_tokens
        seen = attend_rows(query[:, :, :1], key)[:, 0]
        order = extra + seen[:, extra:].argsort(dim=-1, descending=True, stable=True)
        kept, rest = order.tensor_split([math.ceil(amount * order.size(1))], dim=1)
        if rest.size(1) == 0:
            return None
        extras = torch.arange(extra, device=key.device)
        stay = torch.cat((extras.expand(len(key), -1), kept.sort(-1).values, rest[:, :1]), dim=1)
        weight = torch.ones_like(seen).scatter(1, rest, seen.gather(1, rest))
        return Plan(stay, rest[:, 1:], torch.full_like(rest[:, 1:], stay.size(1) - 1), weight)
