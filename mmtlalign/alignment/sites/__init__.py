"""The kinds of place where tokens mix: each runs the stock call and moves
the shares beside it."""

from .attention import AnyAttention, Attention, CaughtAttention, mix_heads
from .base import ModuleSite, Site, StandIn
from .branch import Branch, Parts
from .merging import Cells, Merging, PoolingMixer
from .start import Start, of_map, second, with_extra_tokens
from .windows import StandInSelf, WindowAttention

__all__ = [
    'AnyAttention',
    'Attention',
    'Branch',
    'CaughtAttention',
    'Cells',
    'Merging',
    'ModuleSite',
    'Parts',
    'PoolingMixer',
    'Site',
    'StandIn',
    'StandInSelf',
    'Start',
    'WindowAttention',
    'mix_heads',
    'of_map',
    'second',
    'with_extra_tokens',
]
