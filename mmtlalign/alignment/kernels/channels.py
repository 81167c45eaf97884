"""Shares as spare value channels of attention.

Besides ``A @ value`` every head then returns ``A @ share``, which is averaged
over heads, and no attention matrix is ever stored: the multi-head rule of
TL-Align (arXiv 2210.06455, section 3.3) for one number per token.
"""
import torch.nn.functional as F
from torch import Tensor


def encode(share: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Write shares as value channels.

    Only the deviation from the sample's mean is carried: rows of ``A`` sum to
    one, so the mean passes unchanged, a constant share stays constant in any
    precision, and the rounding of half precision shrinks with the deviation.

    Args:
        share (Tensor): (B, M), float32.
        like (Tensor): (B, H, M, D), gives device and precision.

    Returns:
        tuple[Tensor, Tensor]: channels (B, 1, M, 1 to 8), means (B, 1).
    """
    mean = share.mean(dim=1, keepdim=True)
    channels = (share - mean).to(like.dtype)[:, None, :, None]
    return F.pad(channels, (0, num_spare(like) - 1)), mean


def num_spare(like: Tensor) -> int:
    """How many channels to add to heads that need at least one more.

    Kernels for half precision and for GPUs want widths that are multiples of
    eight, so there the head is filled up to the next one; the kernel for
    float32 on the CPU takes any width, and less is faster.
    """
    if like.device.type == 'cpu' and like.dtype.itemsize >= 4:
        return 1
    return 8 - like.size(-1) % 8


def decode(channels: Tensor, mean: Tensor) -> Tensor:
    """Head mean of attended channels (B, H, N, 1 to 8) -> shares (B, N)."""
    return mean + channels.detach()[..., 0].float().mean(dim=1)


def widen(tensor: Tensor, channels: Tensor,
          out: Tensor | None = None) -> Tensor:
    """Append channels to the last dimension, tokens before heads in memory,
    which is the layout that stock attention hands to the kernel."""
    b, h, n, d = tensor.shape
    if out is None:
        out = tensor.new_empty(b, n, h, d + channels.size(-1))
    wide = out.transpose(1, 2)
    wide[..., :d] = tensor
    wide[..., d:] = channels
    return wide


def widen_all(query: Tensor, key: Tensor, value: Tensor,
              share: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Query, key and value with room for shares, and the shares' means."""
    channels, mean = encode(share, value)
    nothing = channels.new_zeros(1, 1, 1, channels.size(-1))
    wide = (widen(query, nothing), widen(key, nothing),
            widen(value, channels))
    return wide, mean


def scale_of(query: Tensor, scale: float | None) -> float:
    """The factor on scores, by default that of the head's own width."""
    return query.size(-1)**-0.5 if scale is None else scale
