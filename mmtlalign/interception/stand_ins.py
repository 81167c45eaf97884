"""Stand-ins for instance attributes, for functions of torch, and for the ``self`` of a method."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SOFTMAX = (Tensor.softmax, torch.softmax, F.softmax)
_ABSENT = object()


class Interception:
    """Replaces attributes of instances and puts back what was there.

    By instance attributes rather than hooks, since a compiled module does not notice a hook on one
    of its children. Several may stack on one attribute; they are undone in reverse order.
    """

    def __init__(self) -> None:
        self._replaced: list[tuple[object, str, object]] = []

    @property
    def active(self) -> bool:
        """bool: Whether anything is replaced at the moment."""
        return bool(self._replaced)

    def replace(self, owner: object, name: str, stand_in: Callable) -> None:
        """Let ``owner.name`` be the stand-in until :meth:`restore`."""
        before = owner.__dict__.get(name, _ABSENT)
        self._replaced.append((owner, name, before))
        setattr(owner, name, stand_in)

    def restore(self) -> None:
        """Put back every replaced attribute, the last one first."""
        while self._replaced:
            owner, name, before = self._replaced.pop()
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)


class FunctionInterception(TorchFunctionMode):
    """Inside it, calls of some functions go to ``instead(function, *args)``.

    Args:
        instead (Callable): What is called with the function and its arguments.
        functions (Callable): Of torch.
    """

    def __init__(self, instead: Callable, *functions: Callable) -> None:
        super().__init__()
        self.instead = instead
        self.functions = functions

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in self.functions:
            return self.instead(func, *args, **kwargs)
        return func(*args, **kwargs)


class StandInSelf:
    """The ``self`` of a stock method: the module, but for some attributes.

    Args:
        module (nn.Module): What has all the others.
        catch (str): An attribute that the method calls. What it is given first is kept as
            ``caught``, and returned.
        attributes: Others that the method should meet.
    """

    def __init__(self, module: nn.Module, catch: str, **attributes) -> None:
        self.module = module
        for name, value in (attributes | {catch: self._catch}).items():
            setattr(self, name, value)

    def __getattr__(self, name: str):
        return getattr(self.module, name)

    def _catch(self, caught, *args, **kwargs):
        self.caught = caught
        return caught
