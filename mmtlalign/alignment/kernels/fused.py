"""Shares through PyTorch's fused kernel, at the memory of stock attention.

Query, key and value are widened in the forward only; what is kept for the
backward is exactly what stock attention keeps.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .channels import decode, encode, scale_of, widen, widen_all

aten = torch.ops.aten
# Shapes whose widened key and value are kept for the next step: one for every
# stage of a hierarchical backbone and a few more.
MAX_BUFFERS = 8


class Kernels(NamedTuple):
    """Forward and backward of a fused kernel with explicit scale.

    ``forward(q, k, v, scale) -> (out, *context)``,
    ``backward(grad, q, k, v, out, *context, scale) -> (gq, gk, gv)``.
    """
    forward: Callable
    backward: Callable


def _cpu_forward(query, key, value, scale):
    return aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0., False, scale=scale)


def _cpu_backward(grad, query, key, value, out, logsumexp, scale):
    dtype, tensors = query.dtype, (grad, query, key, value, out)
    if dtype in (torch.bfloat16, torch.float16):
        # PyTorch's kernel for halves is slower than that and the casts.
        tensors = (x.float() for x in tensors)
    grads = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *tensors, logsumexp, 0., False, scale=scale)
    return tuple(x.to(dtype) for x in grads)


FUSED_KERNELS = dict(cpu=Kernels(_cpu_forward, _cpu_backward))


class _FusedShareAttention(torch.autograd.Function):
    """Forward on widened tensors, backward on the original ones."""

    @staticmethod
    def forward(ctx, query, key, value, share, scale, buffers):
        kernels = FUSED_KERNELS[query.device.type]
        dims = query.size(-1)
        if buffers is None or torch.compiler.is_compiling():
            # Memory is the compiler's to plan, strides included.
            wide, mean = widen_all(query, key, value, share)
        else:
            wide, mean = _widen_frugally(query, key, value, share, buffers)
        wide_out, *context = kernels.forward(*wide, scale)
        mixed = decode(wide_out[..., dims:], mean)
        # A copy in the layout of the stock output: the projection that
        # follows then reads it as a view, and one storage serves both.
        out = wide_out[..., :dims].transpose(1, 2).contiguous()
        out = out.transpose(1, 2)
        ctx.save_for_backward(query, key, value, out, *context)
        ctx.scale = scale
        ctx.mark_non_differentiable(mixed)
        return out, mixed

    @staticmethod
    def backward(ctx, grad, _):
        query, key, value, out, *context = ctx.saved_tensors
        kernels = FUSED_KERNELS[query.device.type]
        grads = kernels.backward(grad, query, key, value, out, *context,
                                 ctx.scale)
        return (*grads, None, None, None)


def fused_share_attention(
        query: Tensor, key: Tensor, value: Tensor, share: Tensor,
        scale: float | None = None,
        buffers: dict | None = None) -> tuple[Tensor, Tensor]:
    """Attention and moved shares at the memory of stock attention.

    The contract stands in :mod:`mmtlalign.alignment.kernels`.

    Args:
        query (Tensor): (B, H, N, D).
        key, value (Tensor): (B, H, M, D).
        share (Tensor): (B, M), float32, no gradient.
        scale (float, optional): Of the scores. Defaults to None, one over the
            root of D.
        buffers (dict, optional): Keeps the widened key and value for the next
            call, which writes over them. Defaults to None.
    """
    device = query.device.type
    if torch.is_autocast_enabled(device):
        # What autocast does for the public function, it does not do here.
        dtype = torch.get_autocast_dtype(device)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    return _FusedShareAttention.apply(query, key, value, share,
                                      scale_of(query, scale), buffers)


def _widen_frugally(
        query: Tensor, key: Tensor, value: Tensor, share: Tensor,
        buffers: dict) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """The same without fresh memory for the key and the value, whose pages
    would cost 1 to 2 % of a training step, and if possible without a copy of
    the query."""
    channels, mean = encode(share, value)
    nothing = channels.new_zeros(1, 1, 1, channels.size(-1))
    b, h, m, d = value.shape
    kind = (2, b, m, h, d + channels.size(-1), value.dtype, value.device,
            torch.is_inference_mode_enabled())
    if kind not in buffers:
        if len(buffers) == MAX_BUFFERS:
            buffers.clear()
        buffers[kind] = value.new_empty(kind[:5])
    key_buffer, value_buffer = buffers[kind]
    wide_query = _borrow(query, channels.size(-1))
    if wide_query is None:
        wide_query = widen(query, nothing)
    return (wide_query, widen(key, nothing, key_buffer),
            widen(value, channels, value_buffer)), mean


def _borrow(query: Tensor, num_channels: int) -> Tensor | None:
    """The query with what follows each row in memory as further channels, or
    None where nothing follows the last row.

    The key's further channels are zero, so they do not count. They are other
    queries and keys of the same token: where one is not finite, the token is
    lost anyway.
    """
    end = query.storage_offset() + num_channels + 1 + sum(
        (size - 1) * stride
        for size, stride in zip(query.shape, query.stride()))
    if query.stride(-1) != 1 or (
            end > query.untyped_storage().nbytes() // query.itemsize):
        return None
    wide = (*query.shape[:-1], query.size(-1) + num_channels)
    return query.as_strided(wide, query.stride())
