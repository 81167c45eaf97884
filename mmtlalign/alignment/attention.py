"""Attention that carries token shares through the fused kernel.

Implements the multi-head rule of TL-Align (arXiv 2210.06455, section 3.3)
for one number per token: besides ``A @ value`` every head returns
``A @ share``, which is averaged over heads. The share rides in spare value
channels, so no attention matrix is ever stored.

Three paths give the same numbers:

- :func:`fused_share_attention` widens query, key and value in the forward
  only and keeps for the backward exactly what stock attention keeps;
- :func:`padded_share_attention` widens them through the public function;
- :func:`separate_share_attention` leaves the features to the stock call and
  moves the shares in a second, gradient-free one.
"""
import functools
from typing import Callable, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

aten = torch.ops.aten


def _encode(share: Tensor, like: Tensor) -> Tuple[Tensor, Tensor]:
    """Write shares as value channels.

    Only the deviation from the sample's mean is carried: rows of ``A`` sum to
    one, so the mean passes unchanged, a constant share stays constant in any
    precision, and the rounding of half precision shrinks with the deviation.
    Kernels for half precision and for GPUs want widths that are multiples of
    eight, so there the head is filled up to the next one; the kernel for
    float32 on the CPU takes any width, and less is faster.

    Args:
        share (Tensor): (B, N), float32.
        like (Tensor): (B, H, N, D), gives device and precision.

    Returns:
        Tuple[Tensor, Tensor]: channels (B, 1, N, 1 to 8), means (B, 1).
    """
    mean = share.mean(dim=1, keepdim=True)
    channels = (share - mean).to(like.dtype)[:, None, :, None]
    if like.device.type != 'cpu' or like.dtype.itemsize < 4:
        channels = F.pad(channels, (0, 7 - like.size(-1) % 8))
    return channels, mean


def _decode(channels: Tensor, mean: Tensor) -> Tensor:
    """Head mean of attended channels (B, H, N, 1 to 8) -> shares (B, N)."""
    return mean + channels.detach()[..., 0].float().mean(dim=1)


def _widen(tensor: Tensor, channels: Tensor,
           out: Optional[Tensor] = None) -> Tensor:
    """Append channels to the last dimension, tokens before heads in memory,
    which is the layout that stock attention hands to the kernel."""
    b, h, n, d = tensor.shape
    if out is None:
        out = tensor.new_empty(b, n, h, d + channels.size(-1))
    wide = out.transpose(1, 2)
    wide[..., :d] = tensor
    wide[..., d:] = channels
    return wide


def _widen_all(query: Tensor, key: Tensor, value: Tensor,
               share: Tensor) -> Tuple[Tuple[Tensor, Tensor, Tensor], Tensor]:
    channels, mean = _encode(share, value)
    nothing = channels.new_zeros(1, 1, 1, channels.size(-1))
    wide = (_widen(query, nothing), _widen(key, nothing),
            _widen(value, channels))
    return wide, mean


def _widen_frugally(
        query: Tensor, key: Tensor, value: Tensor, share: Tensor,
        buffers: dict) -> Tuple[Tuple[Tensor, Tensor, Tensor], Tensor]:
    """The same without fresh memory for the key and the value, whose pages
    would cost 1 to 2 % of a training step, and if possible without a copy of
    the query."""
    channels, mean = _encode(share, value)
    nothing = channels.new_zeros(1, 1, 1, channels.size(-1))
    b, h, n, d = value.shape
    kind = (2, b, n, h, d + channels.size(-1), value.dtype, value.device,
            torch.is_inference_mode_enabled())
    if kind not in buffers:
        buffers.clear()
        buffers[kind] = value.new_empty(kind[:5])
    key_buffer, value_buffer = buffers[kind]
    wide_query = _borrow(query, channels.size(-1))
    if wide_query is None:
        wide_query = _widen(query, nothing)
    return (wide_query, _widen(key, nothing, key_buffer),
            _widen(value, channels, value_buffer)), mean


def _borrow(query: Tensor, num_channels: int) -> Optional[Tensor]:
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


class _Kernels(NamedTuple):
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


FUSED_KERNELS = dict(cpu=_Kernels(_cpu_forward, _cpu_backward))


class _FusedShareAttention(torch.autograd.Function):
    """Forward on widened tensors, backward on the original ones."""

    @staticmethod
    def forward(ctx, query, key, value, share, buffers):
        kernels = FUSED_KERNELS[query.device.type]
        dims = query.size(-1)
        scale = dims**-0.5
        if buffers is None or torch.compiler.is_compiling():
            # Memory is the compiler's to plan, strides included.
            wide, mean = _widen_all(query, key, value, share)
        else:
            wide, mean = _widen_frugally(query, key, value, share, buffers)
        wide_out, *context = kernels.forward(*wide, scale)
        mixed = _decode(wide_out[..., dims:], mean)
        # A copy in the layout of the stock output: the projection that
        # follows then reads it as a view, and one storage serves both.
        out = wide_out[..., :dims].transpose(1, 2).contiguous()
        out = out.transpose(1, 2)
        ctx.save_for_backward(query, key, value, out, *context)
        ctx.mark_non_differentiable(mixed)
        return out, mixed

    @staticmethod
    def backward(ctx, grad, _):
        query, key, value, out, *context = ctx.saved_tensors
        kernels = FUSED_KERNELS[query.device.type]
        grads = kernels.backward(grad, query, key, value, out, *context,
                                 query.size(-1)**-0.5)
        return (*grads, None, None)


def fused_share_attention(
        query: Tensor, key: Tensor, value: Tensor, share: Tensor,
        buffers: Optional[dict] = None) -> Tuple[Tensor, Tensor]:
    """Attention and moved shares at the memory of stock attention.

    Args:
        query, key, value (Tensor): (B, H, N, D), equally wide.
        share (Tensor): (B, N), float32, no gradient.
        buffers (dict, optional): Keeps the widened key and value for the next
            call, which writes over them. Defaults to None.

    Returns:
        Tuple[Tensor, Tensor]: features (B, H, N, D) and ``mean_heads(A) @
        share`` (B, N), float32, without gradient.
    """
    device = query.device.type
    if torch.is_autocast_enabled(device):
        # What autocast does for the public function, it does not do here.
        dtype = torch.get_autocast_dtype(device)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    return _FusedShareAttention.apply(query, key, value, share, buffers)


def padded_share_attention(query: Tensor, key: Tensor, value: Tensor,
                           share: Tensor) -> Tuple[Tensor, Tensor]:
    """Same contract as :func:`fused_share_attention`, on every device: the
    public function on widened tensors, which keeps the padding for the
    backward."""
    dims = query.size(-1)
    wide, mean = _widen_all(query, key, value, share)
    out = F.scaled_dot_product_attention(*wide, scale=dims**-0.5)
    return out[..., :dims], _decode(out[..., dims:], mean)


def separate_share_attention(query: Tensor, key: Tensor, value: Tensor,
                             share: Tensor) -> Tuple[Tensor, Tensor]:
    """Same contract as :func:`fused_share_attention`; the features come from
    the stock call alone, so that a checkpointed block recomputes the very
    tensors it saved. Costs a second attention forward."""
    out = F.scaled_dot_product_attention(query, key, value)
    with torch.no_grad():
        channels, mean = _encode(share, value)
        carrier = F.pad(channels, (0, value.size(-1) - channels.size(-1)))
        carried = F.scaled_dot_product_attention(
            query, key, carrier.expand_as(value))
        mixed = _decode(carried, mean)
    return out, mixed


def inside_checkpoint() -> bool:
    """Whether this forward keeps nothing for the backward, or leaves that to
    activation checkpointing, whose recomputation must meet the same saved
    tensors: reentrant checkpointing disables gradients, the other kind
    installs hooks for saved tensors."""
    if torch.compiler.is_compiling():
        return False
    if not torch.is_grad_enabled():
        return True
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return (hooks is not None
            and hooks[0].__module__ == 'torch.utils.checkpoint')


def inside_backward() -> bool:
    """Whether the autograd engine is at work on this thread, that is, whether
    a forward running now is a recomputation."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._current_graph_task_id() != -1


def _agrees_with_padded(device: torch.device) -> Optional[str]:
    """Try the fused path once on small tensors; the reason if it fails."""
    dtype = torch.float32 if device.type == 'cpu' else torch.float16
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 2, 3, 9, 16, generator=generator)
    share = torch.rand(2, 9, generator=generator).to(device)
    results = []
    for path in (fused_share_attention, padded_share_attention):
        *qkv, grad = inputs.to(device, dtype).unbind()
        qkv = [x.clone().requires_grad_() for x in qkv]
        out, mixed = path(*qkv, share)
        grads = torch.autograd.grad(out, qkv, grad)
        results.append((out, mixed, *grads))
    tolerance = 1e-5 if dtype == torch.float32 else 5e-3
    for ours, public in zip(*results):
        if not torch.allclose(ours.float(), public.float(), atol=tolerance):
            gap = (ours.float() - public.float()).abs().max().item()
            return f'it differs from the public function by {gap:.1e}'
    return None


@functools.lru_cache(maxsize=None)
def choose_share_attention(device: torch.device) -> Callable:
    """The fastest path that works on a device, chosen and logged once.

    Args:
        device (torch.device): Where the backbone's parameters are.

    Returns:
        Callable: :func:`fused_share_attention` where its kernels exist and
        agree with the public function on a small example, else
        :func:`padded_share_attention`.
    """
    reason = f'no fused kernel is known for {device.type}'
    if device.type in FUSED_KERNELS:
        try:
            # Whatever mode the first trace is entered in.
            with torch.inference_mode(False), torch.enable_grad(), \
                    torch.autocast(device.type, enabled=False):
                reason = _agrees_with_padded(device)
        except (RuntimeError, AttributeError, TypeError) as error:
            reason = f'it fails here ({str(error).splitlines()[0]})'
    if reason is None:
        return fused_share_attention
    print_log(
        f'Shares go through padded attention on {device}: fused share '
        f'attention is left out because {reason}.',
        logger='current')
    return padded_share_attention
