"""Shares as spare value channels of attention.

Besides ``A @ value`` every head then returns ``A @ share``, which is averaged over heads, and no
attention matrix is ever stored: the multi-head rule of TL-Align (arXiv 2210.06455, section 3.3)
for one number per token. These ways through the public function work on every device; see
:mod:`mmtlalign.alignment.kernels`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Attended = tuple[Tensor, Tensor, Tensor | None]


def centred(share: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Shares (B, M) -> deviations (B, 1, M, 1) in the precision of ``like``, and samples' means
    (B, 1). Rows of ``A`` sum to one, so the mean passes unchanged: a constant share stays constant
    in any precision, and rounding shrinks with the deviation."""
    mean = share.mean(dim=1, keepdim=True)
    return (share - mean).to(like.dtype)[:, None, :, None], mean


def decode(channel: Tensor, mean: Tensor) -> Tensor:
    """Head mean of attended deviations (B, H, N) -> shares (B, N)."""
    return mean + channel.detach().float().mean(dim=1)


def num_spare(like: Tensor) -> int:
    """How many channels to add to heads that need one more: kernels for half precision and GPUs
    want multiples of eight; that for float32 on the CPU takes any width, and less is faster."""
    if like.device.type == 'cpu' and like.dtype.itemsize >= 4:
        return 1
    return 8 - like.size(-1) % 8


def widen(tensor: Tensor, width: int, channel=None, out: Tensor | None = None) -> Tensor:
    """Append a channel, and zeros up to a width, which ``out`` has already. In memory tokens lie
    before heads, as stock."""
    b, h, n, dims = tensor.shape
    wide = (tensor.new_empty(b, n, h, width) if out is None else out).transpose(1, 2)
    wide[..., :dims] = tensor
    if out is None:
        wide[..., dims:] = 0
    if channel is not None:
        wide[..., dims : dims + 1] = channel
    return wide


def scale_of(query: Tensor, scale: float | None) -> float:
    """The factor on scores, by default that of the head's own width."""
    return query.size(-1) ** -0.5 if scale is None else scale


def precision(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Of attention, which autocast takes down."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return dtype


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """What autocast does for the public function alone."""
    return tuple(x.to(precision(x.device, x.dtype)) for x in tensors)


@torch.no_grad()
def carry_values(query, key, value, share: Tensor, scale: float | None = None) -> Tensor:
    """``A @ (deviation * value)`` by a call of its own."""
    return F.scaled_dot_product_attention(query, key, centred(share, value)[0] * value, scale=scale)


def padded_share_attention(query, key, value, share, scale=None, carry=False) -> Attended:
    """Attention on widened tensors, which are kept for the backward."""
    dims = query.size(-1)
    width = dims + num_spare(value)
    deviation, mean = centred(share, value)
    wide = widen(query, width), widen(key, width), widen(value, width, deviation)
    out = F.scaled_dot_product_attention(*wide, scale=scale_of(query, scale))
    carried = carry_values(query, key, value, share, scale) if carry else None
    return out[..., :dims], decode(out[..., dims], mean), carried


def separate_share_attention(query, key, value, share, scale=None, carry=False) -> Attended:
    """Features from the stock call alone, so that a checkpointed block recomputes the very tensors
    it saved; costs a second forward."""
    out = F.scaled_dot_product_attention(query, key, value, scale=scale)
    with torch.no_grad():
        deviation, mean = centred(share, value)
        if carry:  # both on the way of one call
            carried, mixed, _ = padded_share_attention(query, key, deviation * value, share, scale)
            return out, mixed, carried
        # Equally wide values keep PyTorch on its fused kernel on a CPU; that of GPUs takes fewer.
        width = value.size(-1) if value.device.type == 'cpu' else 8
        carrier = F.pad(deviation, (0, width - 1)).expand(-1, value.size(1), -1, -1)
        attended = F.scaled_dot_product_attention(query, key, carrier, scale=scale)
        return out, decode(attended[..., 0], mean), None


def attend_rows(query: Tensor, key: Tensor, scale: float | None = None) -> Tensor:
    """What a few queries (B, H, n, D) attend to of keys (B, H, M, D): head mean (B, n, M), float32,
    without gradient; rows sum to one."""
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        scores = (query.float() * scale_of(query, scale)) @ key.float().transpose(-2, -1)
        return scores.softmax(dim=-1).mean(dim=1)
