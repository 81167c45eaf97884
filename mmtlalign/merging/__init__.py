"""Merging of tokens inside a backbone, with labels and without."""

from .token_keeping import TokenKeeping
from .token_merging import TokenMerging

__all__ = ['TokenKeeping', 'TokenMerging']
