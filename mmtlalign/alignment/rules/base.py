"""What every backbone rule offers to :class:`LabelTrace`."""
from typing import Callable, List, NamedTuple, Optional

from torch import Tensor, nn


class Patch(NamedTuple):
    """An instance attribute to replace while a trace is attached."""
    owner: nn.Module
    name: str
    replacement: Callable


class Mover:
    """Moves shares wherever one module of the backbone mixes tokens.

    Each keeps its own count and shares instead of leaving them with the
    trace: layers share compiled code, and a value on the trace that differs
    from layer to layer would have that code compiled anew for each.

    Args:
        trace (LabelTrace): Whose shares it moves.

    Attributes:
        in_block (bool): False for mergings between blocks.
        times (int): How often it moved shares in this forward.
        share (Tensor, optional): (B, N), float32, what it moved them to.
    """
    in_block = True

    def __init__(self, trace) -> None:
        self.trace = trace
        self.forget()

    def patches(self) -> List[Patch]:
        """Replacements that call :meth:`move` if ``trace.moving``."""
        raise NotImplementedError

    def move(self, share: Tensor) -> None:
        """Take the shares (B, N) that the module has moved."""
        self.times += 1
        self.share = self.trace.share = share

    def forget(self) -> None:
        """Be ready for the next forward."""
        self.times = 0
        self.share: Optional[Tensor] = None


class Rule:
    """How shares follow the tokens of one backbone.

    A rule checks the backbone once, at construction, and never changes it.

    Attributes:
        output_move (int): After how many moves the share of what the head
            reads is taken.
    """
    output_move: int

    def __init__(self, backbone: nn.Module) -> None:
        raise NotImplementedError

    def movers(self, trace) -> List[Mover]:
        """One for every module that mixes tokens, in the forward's order."""
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
