"""Modules and their classes by name, so that no host need be imported."""

from torch import nn


def name_of(backbone: nn.Module, module: nn.Module) -> str:
    """Dotted name of a module inside the backbone, for error messages."""
    for name, child in backbone.named_modules():
        if child is module:
            return name or 'backbone'
    return type(module).__name__


def class_name(cls: type) -> str:
    """Package and class, such as ``'mmpretrain.SwinBlock'``."""
    return f'{cls.__module__.partition(".")[0]}.{cls.__name__}'


def find_class(module: nn.Module, *names: str) -> type | None:
    """The class of a module's ancestry that has one of the names, as
    :func:`class_name` gives them."""
    for cls in type(module).__mro__:
        if class_name(cls) in names:
            return cls
    return None
