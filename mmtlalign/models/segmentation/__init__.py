"""Parts of segmentors, known where mmseg and mmcv's operators are."""

from importlib import import_module

from mmtlalign.registry import import_parts
from mmtlalign.version import check_versions

parts = {}
try:
    check_versions('mmseg')
    import_module('mmcv.ops')
except ImportError:
    pass  # segmentation configs are told so before anything is built
else:
    globals().update(parts := import_parts(__name__, __path__))
__all__ = list(parts)
