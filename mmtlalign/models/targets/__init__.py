"""What share of its own label a sample is trained on, one file each."""

from mmtlalign.registry import import_parts

globals().update(parts := import_parts(__name__, __path__))
__all__ = list(parts)
