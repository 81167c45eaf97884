"""What every backbone rule offers to :class:`LabelTrace`."""
from typing import Callable, List, NamedTuple

from torch import Tensor, nn


class Patch(NamedTuple):
    """An instance attribute to replace while a trace is attached."""
    owner: nn.Module
    name: str
    replacement: Callable


class Rule:
    """How shares follow the tokens of one backbone.

    A rule checks the backbone once, at construction, and never changes it.

    Attributes:
        num_moves (int): Modules that move shares in one forward: attention
            blocks and mergings.
        output_move (int): After how many moves the share of what the head
            reads is taken.
    """
    num_moves: int
    output_move: int

    def __init__(self, backbone: nn.Module) -> None:
        raise NotImplementedError

    def patches(self, trace) -> List[Patch]:
        """Replacements that call ``trace.move(share)`` when tokens mix."""
        raise NotImplementedError

    def start(self, token_share: Tensor) -> Tensor:
        """Patch shares (B, rows, cols) -> shares of all tokens (B, N)."""
        raise NotImplementedError

    def read(self, share: Tensor) -> Tensor:
        """Shares (B, N) at the output -> share of what the head reads (B,)."""
        raise NotImplementedError


def name_of(backbone: nn.Module, module: nn.Module) -> str:
    """Dotted name of a module inside the backbone, for error messages."""
    for name, child in backbone.named_modules():
        if child is module:
            return name or 'backbone'
    return type(module).__name__


def refuse_dropout(name: str, rate: float) -> None:
    """Raise ValueError if attention dropout is on.

    Dropped entries make the rows of attention sum to something else than
    one, and the features would no longer equal those of the plain backbone.
    """
    if rate:
        raise ValueError(
            f'{name} has attention dropout {rate}; shares can only follow '
            'attention whose rows sum to one. Set it to 0 (use drop_path_rate '
            'to regularise).')


def require_exact(backbone: nn.Module, module: nn.Module, *supported) -> None:
    """Raise TypeError unless a module computes what its stock class does.

    Args:
        backbone (nn.Module): Only for the name in the message.
        module (nn.Module): The module to check.
        supported (type): Classes allowed, exactly or as a subclass that
            overrides no ``forward``.
    """
    if any(isinstance(module, cls) and type(module).forward is cls.forward
           for cls in supported):
        return
    raise TypeError(
        f'{name_of(backbone, module)} is a {type(module).__name__}; label '
        'alignment knows '
        f'{", ".join(cls.__name__ for cls in supported)} here. Write a rule '
        'for it (docs/alignment.md, "Adding a backbone").')
