"""A block that passes on fewer tokens than it is given."""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtlalign.alignment.families import Family
from mmtlalign.alignment.families.vit import StockAttention
from mmtlalign.alignment.kernels import num_spare
from mmtlalign.alignment.sites import Attention, Site
from mmtlalign.interception import Interception, find_class

from .plan import Plan


class MergingBlock(NamedTuple):
    """A block whose tokens can be merged between attention and ffn.

    Attributes:
        module (nn.Module): The block, ``module(x)``.
        attention (Attention): Its ``module`` calls its ``scaled_dot_product_attention`` once.
        norm (nn.Module): What the ffn is given has passed.
        ffn (nn.Module): Called as ``ffn(norm(x), identity=x)`` at the end.
    """

    module: nn.Module
    attention: Attention
    norm: nn.Module
    ffn: nn.Module


def merging_blocks(backbone: nn.Module, family: Family) -> list[MergingBlock]:
    """All blocks of a ViT of mmpretrain or of ours; of others none."""
    sites = [site for site in family.sites if isinstance(site, StockAttention)]
    layers = getattr(backbone, 'layers', ())
    if len(sites) != len(layers):  # such as Twins
        return []
    # DeiT-III of mmpretrain calls `ln1` twice and never `ln2`.
    norm = 'ln1' if find_class(backbone, 'mmpretrain.DeiT3') else 'ln2'
    return [
        MergingBlock(layer, site, getattr(layer, norm), layer.ffn)
        for layer, site in zip(layers, sites)
    ]


class ReducedBlock(Site):
    """Stands in for the forward of a block, and while it runs for parts of it, so that one run can
    be repeated whatever has become of the rest."""

    in_block = False
    # Of one run: what it merges, the sizes (B, N) before it, their bias
    planned: Plan | None
    size: Tensor
    bias: Tensor | None

    def __init__(self, reduction, index: int, block: MergingBlock) -> None:
        super().__init__(block.module)
        self.reduction = reduction
        self.index = index
        self.block = block

    @torch._disable_dynamo
    def forward(self, x: Tensor) -> Tensor:
        sizes = self.reduction.sizes or {x.size(1): x.new_ones(x.shape[:2], dtype=torch.float32)}
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
        if self.trace.moving:
            self._move(run.planned)
        return x

    def _move(self, plan: Plan | None) -> None:
        # of the trace, whose family is another one than the reduction's
        attention = self.trace.family.sites[self.index + 1]
        share = self.trace.share
        # Where only the extra tokens are read, nothing happens to these.
        if plan is not None and attention.limit is None:
            share = plan.mean(share[..., None])[..., 0]
        self.move(share)
        attention.share = share  # which is that after the block

    def __call__(self, x: Tensor) -> Tensor:
        attn, ffn = self.block.attention.module, self.block.ffn
        self.stock_attention = attn.scaled_dot_product_attention
        self.stock_ffn = ffn.forward
        interception = Interception()
        try:
            interception.replace(attn, 'scaled_dot_product_attention', self.attend)
            interception.replace(ffn, 'forward', self.feed_forward)
            return self.stock(x)
        finally:
            interception.restore()

    def attend(self, query: Tensor, key: Tensor, value: Tensor, **kwargs) -> Tensor:
        amount = self.reduction.amounts[self.index]
        if amount and self.planned is None:
            with torch.no_grad(), torch.autocast(key.device.type, enabled=False):
                self.planned = self.reduction.plan(query, key, self.size, amount)
        if self.bias is None:
            return self.stock_attention(query, key, value, **kwargs)
        if self.trace is self.reduction and key.device.type == 'cpu':
            # The fused kernel of the CPU takes a mask, which is faster.
            mask = self.bias[:, None, None].to(key.dtype)
            return self.stock_attention(query, key, value, attn_mask=mask, **kwargs)
        # On a spare channel of the keys, which any kernel takes.
        dims, spare = query.size(-1), num_spare(key)
        bias = F.pad(self.bias[..., None], (0, spare - 1)).to(key.dtype)
        bias = bias[:, None].expand(-1, key.size(1), -1, -1)
        out = self.stock_attention(
            F.pad(query, (0, spare), value=dims**0.5),
            torch.cat((key, bias), dim=-1),
            F.pad(value, (0, spare)),
            scale=dims**-0.5,
            **kwargs,
        )
        return out[..., :dims]

    def feed_forward(self, normed: Tensor, identity: Tensor) -> Tensor:
        if self.planned is not None:
            identity = self.reduction.reduce(self.planned, identity)
            normed = self.block.norm(identity)
        return self.stock_ffn(normed, identity=identity)
