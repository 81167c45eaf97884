"""Token-label alignment (TL-Align) for vision transformers."""

from importlib import import_module

from .version import __version__, check_versions

# Before anything else is imported, so that a wrong installation is named
# as such instead of failing somewhere inside a package.
check_versions('torch', 'mmengine', 'mmcv', 'mmpretrain')

# Where the interface lives, imported when it is first asked for: hosts are
# heavy, and the core needs none of them.
_HOMES = dict(
    LabelTrace='.alignment',
    TokenKeeping='.merging',
    TokenMerging='.merging',
    get_model='.apis',
    list_models='.apis',
)

__all__ = ['__version__', *_HOMES]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
