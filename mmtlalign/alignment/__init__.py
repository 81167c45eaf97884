"""The method: token shares that follow a backbone's mixing of tokens."""
from .embedding import PatchEmbedding
from .families import (
    Family,
    refuse_family,
    refused_backbones,
    register_family,
    supported_backbones,
)
from .propagation import Propagation, register_propagation
from .token_merging import TokenKeeping, TokenMerging
from .trace import LabelTrace

__all__ = [
    'Family', 'LabelTrace', 'PatchEmbedding', 'Propagation', 'TokenKeeping',
    'TokenMerging', 'refuse_family', 'refused_backbones', 'register_family',
    'register_propagation', 'supported_backbones'
]
