"""One file per family of backbones; none imports its host.

Classes are known by name, so that only the host of the backbone at hand need be installed, and
only the file of its family is imported.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

from torch import nn

from mmtlalign.interception import class_name, overrides

from .base import Family, refuse_dropout, stock
from .refused import REFUSED

_FAMILIES: dict[str, Callable[[nn.Module], Family]] = {}
_REFUSED = {name: reason for names, reason in REFUSED.items() for name in names.split()}


def register_family(*names: str):
    """Class decorator: make a :class:`Family` known for backbones, by package and class, such as
    ``'mmpretrain.VisionTransformer'``."""

    def register(family):
        _FAMILIES.update(dict.fromkeys(names, family))
        return family

    return register


def refuse_family(*names: str, reason: str) -> None:
    """Make known why backbones are not supported."""
    _REFUSED.update(dict.fromkeys(names, reason))


def build_family(backbone: nn.Module) -> Family:
    """The family of a backbone: of its class, or of a parent whose ``forward`` it leaves alone.

    Raises:
        TypeError: Naming the class, and why it is refused or which are supported.
        ValueError: An option that shares cannot follow.
    """
    if not isinstance(backbone, nn.Module):
        raise TypeError(f'a backbone is an nn.Module, not a {type(backbone).__name__}.')
    for cls in type(backbone).__mro__:
        name = class_name(cls)
        _load(name)
        if name in _REFUSED:
            raise TypeError(f'{type(backbone).__name__} is refused: {_REFUSED[name]}.')
        if name in _FAMILIES:
            if not overrides(backbone, cls):
                return _FAMILIES[name](backbone)
            break
    return stock(backbone, backbone, *supported_backbones())  # which raises


def supported_backbones() -> list[str]:
    """Package and class of every supported backbone, sorted."""
    _load('')
    return sorted(_FAMILIES)


def refused_backbones() -> dict[str, str]:
    """Package and class of every refused backbone, and the reason."""
    return dict(sorted(_REFUSED.items()))


@cache
def _load(name: str) -> None:
    """Import our families in whose files a class is named."""
    for path in Path(__file__).parent.glob('*.py'):
        if path.stem != '__init__' and name in path.read_text('utf-8'):
            import_module(f'{__name__}.{path.stem}')
