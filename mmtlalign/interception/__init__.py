"""Taking hold of a stock module, and letting go of it: what alignment, merging and the mixing of
tokens have in common."""

from .attributes import Interception
from .functions import SOFTMAX, FunctionInterception
from .names import class_name, find_class, name_of, overrides
from .recomputation import inside_backward, inside_checkpoint
from .selves import StandInSelf

__all__ = [
    'SOFTMAX',
    'FunctionInterception',
    'Interception',
    'StandInSelf',
    'class_name',
    'find_class',
    'inside_backward',
    'inside_checkpoint',
    'name_of',
    'overrides',
]
