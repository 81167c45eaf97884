"""Modules and their classes by name, so that no host need be imported."""

from torch import nn

# What stock forwards hand on to; a subclass that changes one of these reads or computes something
# else, just as with another `forward`.
DELEGATES = 'forward forward_features forward_head pool _pos_embed _format_output _attn'.split()


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


def overrides(module: nn.Module, cls: type) -> list[str]:
    """What forwards hand on to that a module has not from a class, ``forward`` among it."""
    own = type(module)
    return [x for x in DELEGATES if getattr(own, x, None) is not getattr(cls, x, None)]
