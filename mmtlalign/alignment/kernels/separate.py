"""Shares in a second, gradient-free call beside the stock one."""
import torch
import torch.nn.functional as F
from torch import Tensor

from .channels import decode, encode


def separate_share_attention(
        query: Tensor, key: Tensor, value: Tensor, share: Tensor,
        scale: float | None = None) -> tuple[Tensor, Tensor]:
    """Features from the stock call alone, so that a checkpointed block
    recomputes the very tensors it saved; costs a second attention forward.
    The contract stands in :mod:`mmtlalign.alignment.kernels`."""
    out = F.scaled_dot_product_attention(query, key, value, scale=scale)
    with torch.no_grad():
        channels, mean = encode(share, value)
        # equally wide values keep PyTorch on its fused kernel
        carrier = F.pad(channels, (0, value.size(-1) - channels.size(-1)))
        carried = F.scaled_dot_product_attention(
            query, key, carrier.expand_as(value), scale=scale)
        mixed = decode(carried, mean)
    return out, mixed


def attend_rows(query: Tensor, key: Tensor,
                scale: float | None = None) -> Tensor:
    """What a few queries attend to, head mean, in float32.

    Args:
        query (Tensor): (B, H, n, D), the rows asked for.
        key (Tensor): (B, H, M, D).
        scale (float, optional): Defaults to None, one over the root of D.

    Returns:
        Tensor: (B, n, M), without gradient; rows sum to one.
    """
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        scale = query.size(-1)**-0.5 if scale is None else scale
        scores = (query.float() * scale) @ key.float().transpose(-2, -1)
        return scores.softmax(dim=-1).mean(dim=1)
