"""Attention that carries token shares: the ways to compute it.

All are called ``kernel(query, key, value, share, scale=None, carry=False)``, with query (B, H, N,
D), key and value (B, H, M, D) and share (B, M) of the keys, and return features (B, H, N, D) as of
stock attention; ``mean_heads(A) @ share`` (B, N), float32; and ``A @ (deviation * value)`` (B, H,
N, D), with deviations from the mean share, or None unless ``carry``. The last two have no
gradient.
"""

from .channels import attend_rows, num_spare, padded_share_attention, separate_share_attention
from .choice import ShareAttention
from .fused import fused_share_attention
