"""Preprocessors that leave a record of what they mixed."""

from mmtlalign.registry import import_parts

globals().update(parts := import_parts(__name__, __path__))
__all__ = list(parts)
