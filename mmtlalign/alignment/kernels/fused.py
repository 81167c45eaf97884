"""Shares through PyTorch's fused kernel, at the memory of stock attention.

Query, key and value are widened in the forward only; what is kept for the backward is exactly what
stock attention keeps.
"""

import torch
from torch import Tensor

from . import channels

aten = torch.ops.aten
# Shapes kept: one for every stage of a hierarchical backbone and a few more.
MAX_BUFFERS = 8


def flash_forward(query, key, value, scale):
    return aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, False, scale=scale
    )


def flash_backward(grad, query, key, value, out, logsumexp, scale):
    dtype, tensors = query.dtype, (grad, query, key, value, out)
    if dtype in (torch.bfloat16, torch.float16):
        # PyTorch's kernel for halves is slower than that and the casts.
        tensors = (x.float() for x in tensors)
    grads = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *tensors, logsumexp, 0.0, False, scale=scale
    )
    return tuple(x.to(dtype) for x in grads)


class _FusedShareAttention(torch.autograd.Function):
    """Forward on widened tensors, backward on the original ones."""

    @staticmethod
    def forward(ctx, query, key, value, share, scale, buffers):
        dims = query.size(-1)
        width = dims + channels.num_spare(value)
        deviation, mean = channels.centred(share, value)
        wide, key_out, value_out = _room(query, value, width, buffers)
        key_out = channels.widen(key, width, out=key_out)
        value_out = channels.widen(value, width, deviation, out=value_out)
        wide_out, *context = flash_forward(wide, key_out, value_out, scale)
        mixed = channels.decode(wide_out[..., dims], mean)
        # A copy in the layout of the stock output: the projection that follows then reads it as a
        # view, and one storage serves both.
        out = wide_out[..., :dims].transpose(1, 2).contiguous().transpose(1, 2)
        ctx.save_for_backward(query, key, value, out, *context)
        ctx.scale = scale
        ctx.mark_non_differentiable(mixed)
        return out, mixed

    @staticmethod
    def backward(ctx, grad, _):
        return (*flash_backward(grad, *ctx.saved_tensors, ctx.scale), None, None, None)


def fused_share_attention(
    query, key, value, share, scale=None, carry=False, buffers: dict | None = None
) -> channels.Attended:
    """At the memory of stock attention; ``buffers`` keep the widened key and value for the next
    call, which writes over them."""
    query, key, value = channels.as_autocast(query, key, value)
    factor = channels.scale_of(query, scale)
    out, mixed = _FusedShareAttention.apply(query, key, value, share, factor, buffers)
    carried = channels.carry_values(query, key, value, share, scale) if carry else None
    return out, mixed, carried


def _room(query: Tensor, value: Tensor, width: int, buffers: dict | None) -> tuple:
    """The widened query, if possible no copy, and buffers for key and value, whose fresh pages cost
    1 to 2 % of a step. A compiler plans its own."""
    if buffers is None or torch.compiler.is_compiling():
        return channels.widen(query, width), None, None
    b, h, m, _ = value.shape
    kind = (2, b, m, h, width, value.dtype, value.device, torch.is_inference_mode_enabled())
    if kind not in buffers:
        if len(buffers) == MAX_BUFFERS:
            buffers.clear()
        buffers[kind] = value.new_zeros(kind[:5])
    wide = _borrow(query, width)
    return channels.widen(query, width) if wide is None else wide, *buffers[kind]


def _borrow(query: Tensor, width: int) -> Tensor | None:
    """The query with what follows each row in memory as further channels, or None where nothing
    follows the last row.

    The key's further channels are zero, so they do not count; where one is not finite, another
    query or key of the token, it is lost anyway.
    """
    last = sum((size - 1) * stride for size, stride in zip(query.shape, query.stride()))
    end = query.storage_offset() + last + width - query.size(-1) + 1
    if query.stride(-1) != 1 or end > query.untyped_storage().nbytes() // query.itemsize:
        return None
    return query.as_strided((*query.shape[:-1], width), query.stride())
