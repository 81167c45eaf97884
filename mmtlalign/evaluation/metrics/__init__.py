"""Metrics of features, one file each."""

from mmtlalign.registry import import_parts

globals().update(parts := import_parts(__name__, __path__))
__all__ = list(parts)
