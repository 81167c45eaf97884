"""One file per family of backbones; none imports its host.

Classes are known by name, so that only the host of the backbone at hand need
be installed.
"""
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from torch import nn

from .base import (
    Family,
    MergingBlock,
    check_out_indices,
    find_class,
    name_of,
    refuse_dropout,
    require_exact,
)

_FAMILIES: dict[str, Callable[[nn.Module], Family]] = {}
_REFUSED: dict[str, str] = {}


def register_family(*names: str):
    """Class decorator: make a :class:`Family` known for backbones.

    Args:
        names (str): Package and class of each backbone, such as
            ``'mmpretrain.VisionTransformer'``.
    """

    def register(family):
        _FAMILIES.update(dict.fromkeys(names, family))
        return family

    return register


def refuse_family(*names: str, reason: str) -> None:
    """Make known why backbones are not supported."""
    _REFUSED.update(dict.fromkeys(names, reason))


def build_family(backbone: nn.Module) -> Family:
    """The family of a backbone.

    Args:
        backbone (nn.Module): Exactly a registered class, or a subclass that
            overrides no ``forward``.

    Raises:
        TypeError: Naming the class, and why it is refused or which are
            supported.
        ValueError: An option that shares cannot follow.
    """
    if not isinstance(backbone, nn.Module):
        raise TypeError('a backbone is an nn.Module, not a '
                        f'{type(backbone).__name__}.')
    _load()
    for cls in type(backbone).__mro__:
        names = {f'{cls.__module__.partition(".")[0]}.{cls.__name__}'}
        if names & _REFUSED.keys():
            raise TypeError(f'{type(backbone).__name__} is refused: '
                            f'{_REFUSED[names.pop()]}.')
        if names & _FAMILIES.keys():
            break
    require_exact(backbone, backbone, *_FAMILIES)
    return _FAMILIES[names.pop()](backbone)


def supported_backbones() -> list[str]:
    """Package and class of every supported backbone, sorted."""
    _load()
    return sorted(_FAMILIES)


def refused_backbones() -> dict[str, str]:
    """Package and class of every refused backbone, and the reason."""
    _load()
    return dict(sorted(_REFUSED.items()))


def _load() -> None:
    for module in iter_modules(__path__):
        import_module(f'{__name__}.{module.name}')


__all__ = [
    'Family', 'MergingBlock', 'build_family', 'check_out_indices',
    'find_class', 'name_of', 'refuse_dropout', 'refuse_family',
    'refused_backbones', 'register_family', 'require_exact',
    'supported_backbones'
]
