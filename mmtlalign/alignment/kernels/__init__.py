"""Attention that carries token shares: the ways to compute it.

Every kernel has the contract ``kernel(query, key, value, share, scale=None,
carry=False) -> (features, mixed, carried)`` with query (B, H, N, D), key and
value (B, H, M, D) and share (B, M), float32, of the keys.

- ``features`` (B, H, N, D) are those of stock attention.
- ``mixed`` is ``mean_heads(A) @ share``, (B, N), float32.
- ``carried`` is ``A @ (deviation * value)``, (B, H, N, D), with the shares'
  deviations from their mean, or None unless ``carry``.

The last two are without gradient.
"""
from .channels import (
    attend_rows,
    centred,
    num_spare,
    padded_share_attention,
    separate_share_attention,
)
from .choice import ShareAttention
from .fused import fused_share_attention

__all__ = [
    'ShareAttention', 'attend_rows', 'centred', 'fused_share_attention',
    'num_spare', 'padded_share_attention', 'separate_share_attention'
]
