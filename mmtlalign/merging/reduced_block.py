"""A block that passes on fewer tokens than it is given."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtlalign.alignment.kernels import num_spare
from mmtlalign.alignment.sites import Site
from mmtlalign.interception import Interception, find_class

from .plan import Plan


class ReducedBlock(Site):
    """Stands in for the forward of a block of mmpretrain's ViT, and while it runs for its
    attention and its ``ffn(norm(x), identity=x)`` at the end, so that one run can be repeated
    whatever has become of the rest."""

    in_block = False
    # Of one run: what it merges, the sizes (B, N) before it, their bias
    planned: Plan | None
    size: Tensor
    bias: Tensor | None

    def __init__(self, reduction, index: int, layer: nn.Module) -> None:
        super().__init__(layer)
        self.reduction = reduction
        self.index = index
        # DeiT-III of mmpretrain calls `ln1` twice and never `ln2`.
        is_deit3 = find_class(reduction.backbone, 'mmpretrain.DeiT3')
        self.norm = layer.ln1 if is_deit3 else layer.ln2

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
        attn, ffn = self.module.attn, self.module.ffn
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
            normed = self.norm(identity)
        return self.stock_ffn(normed, identity=identity)
