"""Attention that carries token shares: one file per way to compute it.

Every kernel has the contract ``kernel(query, key, value, share, scale=None)
-> (features, mixed)`` with query (B, H, N, D), key and value (B, H, M, D) and
share (B, M), float32, of the keys; mixed is ``mean_heads(A) @ share``, (B,
N), float32, without gradient.
"""
from .choice import choose_kernel
from .fused import fused_share_attention
from .padded import padded_share_attention
from .separate import separate_share_attention

__all__ = [
    'choose_kernel', 'fused_share_attention', 'padded_share_attention',
    'separate_share_attention'
]
