"""Taking hold of a stock module, and letting go of it: what alignment, merging and the mixing of
tokens have in common."""

from .names import class_name, find_class, name_of, overrides
from .recomputation import inside_backward, inside_checkpoint
from .stand_ins import SOFTMAX, FunctionInterception, Interception, StandInSelf

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
