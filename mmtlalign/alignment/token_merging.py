"""Blocks that pass on fewer tokens, in plain forwards and in traced ones."""
import copy
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .families import build_family, name_of
from .interception import Interception
from .kernels.channels import num_spare
from .kernels.separate import attend_rows
from .sites import Site
from .sites.base import StandIn


class Plan(NamedTuple):
    """Tokens that ``stay`` (B, n) in their new order, those ``gone`` (B, r)
    ``into`` (B, r) places of it, and the ``weight`` (B, N) of all."""
    stay: Tensor
    gone: Tensor
    into: Tensor
    weight: Tensor

    def sum(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, n, C)."""
        stay, gone, into = (index[..., None].expand(-1, -1, tokens.size(-1))
                            for index in self[:3])
        return tokens.gather(1, stay).scatter_add(
            1, into, tokens.gather(1, gone))

    def weighted_sum(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, n, C)."""
        return self.sum(tokens * self.weight[..., None].to(tokens.dtype))

    def mean(self, tokens: Tensor) -> Tensor:
        """Weighted means, (B, N, C) -> (B, n, C)."""
        return self.weighted_sum(tokens) / self.weighted_sum(
            torch.ones_like(tokens[..., :1]))


class TokenReduction:
    """Under ``with``, the blocks of a backbone pass on fewer tokens; see
    :class:`TokenMerging` and :class:`TokenKeeping`.

    Whole blocks may be given to mmengine's activation checkpointing, and are
    repeated as they were, also after ``with``. Parts of them may not, and
    with a checkpoint around the backbone the backward must be in ``with``.
    """
    out_types: tuple[str, ...] = ('cls_token', )
    moving = False  # a holder of sites, like a trace, that moves no shares
    amounts: Sequence[float]  # for each block

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.family = build_family(backbone)
        name = f'{type(self).__name__} of {type(backbone).__name__}'
        if not self.family.merging_blocks:
            raise TypeError(f'{name}: its family does not say where blocks '
                            'can merge tokens; ViT, DeiT and LV-ViT do.')
        if self.family.out_type not in self.out_types:
            raise ValueError(
                f'{name}: out_type={self.family.out_type!r} must be one of '
                f'{self.out_types}; merged tokens are no grid of patches.')
        self.sites = [ReducedBlock(self, index) for index in range(
            len(self.family.merging_blocks))]
        self.interception = Interception()
        # (B, N) by N: of how many patches tokens were made, last forward
        self.sizes: dict[int, Tensor] = {}

    def plan(self, query: Tensor, key: Tensor, size: Tensor,
             amount: float) -> Plan | None:
        """What to merge after attention of query and key (B, H, N, D)."""
        raise NotImplementedError

    reduce = staticmethod(Plan.mean)

    def bias(self, size: Tensor) -> Tensor | None:
        """(B, N), to be added to the scores of keys."""

    def __enter__(self) -> 'TokenReduction':
        self.attach(self)
        return self

    def __exit__(self, *exc_info) -> None:
        self.interception.restore()
        for site in self.sites:
            site.detach()

    def attach(self, trace) -> None:
        """Take hold of the backbone on behalf of a trace, or of itself."""
        attentions = [site.block.attention.attn for site in self.sites]
        for module in (self.backbone, *attentions):
            if 'forward' in module.__dict__:
                raise RuntimeError(
                    f'{name_of(self.backbone, module)}.forward is not the '
                    'stock one: leave the `with` block of another trace or '
                    'merging first (or make a LabelTrace(backbone, '
                    'token_merging=...)), and checkpoint whole blocks only.')
        self._stock_forward = self.backbone.forward
        trace.interception.replace(self.backbone, 'forward', self._forward)
        owner, name = self.family.pooling
        self._stock_pooling = getattr(owner, name)
        trace.interception.replace(owner, name, self._pool)
        for site in self.sites:
            site.attach(trace)

    def _forward(self, *args, **kwargs):
        self.sizes = {}
        return self._stock_forward(*args, **kwargs)

    def _pool(self, tokens: Tensor, *args, **kwargs):
        return self._stock_pooling(self.weigh(tokens), *args, **kwargs)

    def weigh(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, ...), of which a plain mean over patches then weighs
        by size."""
        if self.family.out_type != 'avg_featmap':
            return tokens
        size = self.sizes[tokens.size(1)]
        mean = size[:, self.family.num_extra_tokens:].mean(1, keepdim=True)
        weight = (size / mean).view(size.shape + (1, ) * (tokens.ndim - 2))
        return tokens * weight.to(tokens.dtype)

    def __getstate__(self) -> dict:
        """Copies are not entered and know no sizes."""
        return {**self.__dict__, 'interception': Interception(), 'sizes': {}}


class TokenMerging(TokenReduction):
    """ToMe (arXiv 2210.09461): every block merges its ``r`` most similar
    pairs of tokens between attention and feed-forward part.

    Bipartite soft matching of keys, at most half of the patches in a block,
    means weighted by size, proportional attention (section 3). Class and
    distillation tokens are left alone. Shares take the same means. To be
    entered, or given to ``LabelTrace(backbone, token_merging=...)``.

    Args:
        backbone (nn.Module): ViT, DeiT, DeiT-III, distilled DeiT or LV-ViT
            with ``out_type`` 'cls_token', or 'avg_featmap', which then weighs
            tokens by size.
        r (int | Sequence[int]): How many, for all blocks or for each.
        proportional (bool): Add the logarithm of sizes to the scores of
            attention. Defaults to True.

    Raises:
        TypeError: Another family of backbones.
        ValueError: Another ``out_type`` or ``r``.

    Example:
        >>> with TokenMerging(backbone, r=13):
        ...     feats = backbone(images)
    """
    out_types = ('cls_token', 'avg_featmap')

    def __init__(self, backbone: nn.Module, r: int | Sequence[int],
                 proportional: bool = True) -> None:
        super().__init__(backbone)
        depth = len(self.sites)
        self.amounts = list(r) if isinstance(r, Sequence) else [r] * depth
        if len(self.amounts) != depth or not all(
                type(n) is int and n >= 0 for n in self.amounts):
            raise ValueError(f'r={r!r} must be an integer of at least 0, or '
                             f'{depth} of them, one for each block.')
        self.proportional = proportional

    def bias(self, size: Tensor) -> Tensor | None:
        return size.log() if self.proportional and len(self.sizes) > 1 else (
            None)

    def plan(self, query: Tensor, key: Tensor, size: Tensor,
             amount: float) -> Plan | None:
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
        stay = (tokens[:, :extra], 2 * alone[:, first:],
                tokens[:, 1::2][:, second:])
        return Plan(torch.cat(stay, dim=1), 2 * gone,
                    alone.size(1) + match.gather(1, gone), size)


class TokenKeeping(TokenReduction):
    """EViT (arXiv 2202.07800): some blocks keep the patches that the class
    token attends to (head mean), and fuse the others.

    These become one token, their sum weighted by that attention (without
    gradient); its share is their weighted mean. Used like
    :class:`TokenMerging`.

    Args:
        backbone (nn.Module): As there, with ``out_type='cls_token'``.
        keep_rate (float): Part of the patches, in (0, 1]. Defaults to 0.7.
        blocks (Sequence[int]): Which blocks. Defaults to (3, 6, 9), as
            published for 12.

    Raises:
        TypeError: Another family of backbones.
        ValueError: Another ``out_type``, ``keep_rate`` or block.
    """

    def __init__(self, backbone: nn.Module, keep_rate: float = .7,
                 blocks: Sequence[int] = (3, 6, 9)) -> None:
        super().__init__(backbone)
        depth = len(self.sites)
        if not 0 < keep_rate <= 1 or not set(blocks) <= set(range(depth)):
            raise ValueError(f'keep_rate={keep_rate} must lie in (0, 1], and '
                             f'blocks={tuple(blocks)} in 0 to {depth - 1}.')
        self.amounts = [keep_rate * (i in blocks) for i in range(depth)]

    reduce = staticmethod(Plan.weighted_sum)

    def plan(self, query: Tensor, key: Tensor, size: Tensor,
             amount: float) -> Plan | None:
        extra = self.family.num_extra_tokens
        seen = attend_rows(query[:, :, :1], key)[:, 0]
        order = extra + seen[:, extra:].argsort(
            dim=-1, descending=True, stable=True)
        kept, rest = order.tensor_split(
            [math.ceil(amount * order.size(1))], dim=1)
        if rest.size(1) == 0:
            return None
        extras = torch.arange(extra, device=key.device)
        stay = torch.cat((extras.expand(len(key), -1), kept.sort(-1).values,
                          rest[:, :1]), dim=1)
        weight = torch.ones_like(seen).scatter(1, rest, seen.gather(1, rest))
        return Plan(stay, rest[:, 1:],
                    torch.full_like(rest[:, 1:], stay.size(1) - 1), weight)


class ReducedBlock(Site):
    """Stands in for the forward of a block, and while it runs for parts of
    it, so that one run can be repeated whatever has become of the rest."""
    in_block = False
    # of a run
    planned: Plan | None
    size: Tensor  # (B, N), before it
    bias: Tensor | None

    def __init__(self, reduction: TokenReduction, index: int) -> None:
        super().__init__()
        self.reduction = reduction
        self.index = index
        self.block = reduction.family.merging_blocks[index]

    def stand_ins(self) -> Iterator[StandIn]:
        self.stock = self.block.module.forward
        yield self.block.module, 'forward', self.forward

    @torch._disable_dynamo
    def forward(self, x: Tensor) -> Tensor:
        sizes = self.reduction.sizes or {
            x.size(1): x.new_ones(x.shape[:2], dtype=torch.float32)}
        self.reduction.sizes = sizes
        run = copy.copy(self)
        run.planned = None
        run.size = sizes[x.size(1)]
        run.bias = self.reduction.bias(run.size)
        repeat = getattr(self.stock, '__globals__', {}).get('wrap_forward')
        if repeat is None:
            x = run(x)
        else:  # by mmengine: what it repeats must be this run
            run.stock = self.stock.__wrapped__
            x = repeat(run)(x)
        if run.planned is not None:
            sizes[x.size(1)] = run.planned.sum(run.size[..., None])[..., 0]
        if self.moving:
            self._move(run.planned)
        return x

    def _move(self, plan: Plan | None) -> None:
        attention = self.trace.family.merging_blocks[self.index].attention
        share = self.trace.share
        # Where only the extra tokens are read, nothing happens to these.
        if plan is not None and attention.num_rows is None:
            share = plan.mean(share[..., None])[..., 0]
        self.move(share)
        attention.share = share  # which is that after the block

    def __call__(self, x: Tensor) -> Tensor:
        attn, ffn = self.block.attention.attn, self.block.ffn
        self.stock_attention = attn.scaled_dot_product_attention
        self.stock_ffn = ffn.forward
        interception = Interception()
        try:
            interception.replace(
                attn, 'scaled_dot_product_attention', self.attend)
            interception.replace(ffn, 'forward', self.feed_forward)
            return self.stock(x)
        finally:
            interception.restore()

    def attend(self, query: Tensor, key: Tensor, value: Tensor,
               **kwargs) -> Tensor:
        amount = self.reduction.amounts[self.index]
        if amount and self.planned is None:
            with torch.no_grad(), torch.autocast(
                    key.device.type, enabled=False):
                self.planned = self.reduction.plan(
                    query, key, self.size, amount)
        if self.bias is None:
            return self.stock_attention(query, key, value, **kwargs)
        if self.trace is self.reduction and key.device.type == 'cpu':
            # The fused kernel of the CPU takes a mask, which is faster.
            mask = self.bias[:, None, None].to(key.dtype)
            return self.stock_attention(
                query, key, value, attn_mask=mask, **kwargs)
        # On a spare channel of the keys, which any kernel takes.
        dims, spare = query.size(-1), num_spare(key)
        bias = F.pad(self.bias[..., None], (0, spare - 1)).to(key.dtype)
        bias = bias[:, None].expand(-1, key.size(1), -1, -1)
        out = self.stock_attention(
            F.pad(query, (0, spare), value=dims**.5),
            torch.cat((key, bias), dim=-1), F.pad(value, (0, spare)),
            scale=dims**-.5, **kwargs)
        return out[..., :dims]

    def feed_forward(self, normed: Tensor, identity: Tensor) -> Tensor:
        if self.planned is not None:
            identity = self.reduction.reduce(self.planned, identity)
            normed = self.block.norm(identity)
        return self.stock_ffn(normed, identity=identity)
