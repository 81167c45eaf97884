"""Shares through the public function: works on every device."""
import torch.nn.functional as F
from torch import Tensor

from .channels import decode, scale_of, widen_all


def padded_share_attention(
        query: Tensor, key: Tensor, value: Tensor, share: Tensor,
        scale: float | None = None) -> tuple[Tensor, Tensor]:
    """Attention on widened tensors, which keeps the padding for the
    backward; the contract stands in :mod:`mmtlalign.alignment.kernels`."""
    dims = query.size(-1)
    wide, mean = widen_all(query, key, value, share)
    out = F.scaled_dot_product_attention(*wide, scale=scale_of(query, scale))
    return out[..., :dims], decode(out[..., dims:], mean)
