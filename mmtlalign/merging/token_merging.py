"""ToMe (arXiv 2210.09461)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .plan import Plan
from .reduction import TokenReduction


class TokenMerging(TokenReduction):
    """ToMe (arXiv 2210.09461): every block merges its ``r`` most similar pairs of tokens between
    attention and feed-forward part.

    Bipartite soft matching of keys, at most half of the patches in a block, means weighted by
    size, proportional attention (section 3). Class and distillation tokens are left alone. Shares
    take the same means. To be entered, or given to ``LabelTrace(backbone, token_merging=...)``.

    Args:
        backbone (nn.Module): ViT, DeiT, DeiT-III, distilled DeiT or LV-ViT with ``out_type``
            'cls_token', or 'avg_featmap', which then weighs tokens by size.
        r (int | Sequence[int]): How many, for all blocks or for each.
        proportional (bool): Add the logarithm of sizes to the scores. Defaults to True.

    Raises:
        TypeError: Another family of backbones.
        ValueError: Another ``out_type`` or ``r``.

    Example:
        >>> with TokenMerging(backbone, r=13):
        ...     feats = backbone(images)
    """

    out_types = ('cls_token', 'avg_featmap')

    def __init__(
        self, backbone: nn.Module, r: int | Sequence[int], proportional: bool = True
    ) -> None:
        super().__init__(backbone)
        depth = len(self.sites)
        self.amounts = list(r) if isinstance(r, Sequence) else [r] * depth
        if len(self.amounts) != depth or not all(type(n) is int and n >= 0 for n in self.amounts):
            raise ValueError(
                f'r={r!r} must be an integer of at least 0, or {depth} of them, one for each block.'
            )
        self.proportional = proportional

    def bias(self, size: Tensor) -> Tensor | None:
        return size.log() if self.proportional and len(self.sizes) > 1 else None

    def plan(self, query: Tensor, key: Tensor, size: Tensor, amount: float) -> Plan | None:
        num, extra = key.size(2), self.family.num_extra_tokens
        r = min(int(amount), (num - extra) // 2)
        if r == 0:
            return None
        keys = F.normalize(key.float().mean(dim=1), dim=-1)
        # every other token looks for the most similar one of the rest
        similar = keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)
        first, second = (extra + 1) // 2, extra // 2
        similar[:, :first] = similar[:, :, :second] = -torch.inf
        best, match = similar.max(dim=-1)
        order = best.argsort(dim=-1, descending=True, stable=True)
        gone, alone = order[:, :r], order[:, r:].sort(dim=-1).values
        tokens = torch.arange(num, device=key.device).expand(len(key), -1)
        stay = (tokens[:, :extra], 2 * alone[:, first:], tokens[:, 1::2][:, second:])
        return Plan(torch.cat(stay, dim=1), 2 * gone, alone.size(1) + match.gather(1, gone), size)
