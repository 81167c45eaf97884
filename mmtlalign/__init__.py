"""Token-label alignment (TL-Align) for vision transformers."""
from .version import __version__, check_versions

# Before anything else is imported, so that a wrong installation is named
# as such instead of failing somewhere inside a package.
check_versions('torch', 'mmengine', 'mmcv', 'mmpretrain')

__all__ = ['__version__']
