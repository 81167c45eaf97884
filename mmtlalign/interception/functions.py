"""Stand-ins for functions of torch, where a module calls them inline."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SOFTMAX = (Tensor.softmax, torch.softmax, F.softmax)


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
