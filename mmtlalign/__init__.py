"""Token-label alignment (TL-Align) for vision transformers."""
from .version import __version__, check_versions

# Before anything else is imported, so that a wrong installation is named
# as such instead of failing somewhere inside a package.
check_versions('torch', 'mmengine', 'mmcv', 'mmpretrain')

__all__ = [
    'TokenKeeping', 'TokenMerging', '__version__', 'get_model', 'list_models'
]


def __getattr__(name: str):
    """Import the interface when it is first asked for: it is heavy."""
    if name in ('get_model', 'list_models'):
        from . import apis
        return getattr(apis, name)
    if name in ('TokenKeeping', 'TokenMerging'):
        from . import alignment
        return getattr(alignment, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
