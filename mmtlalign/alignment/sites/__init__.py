"""The kinds of place where tokens mix: each runs the stock call and moves
the shares beside it."""
from .attention import (
    AnyAttention,
    Attention,
    CaughtAttention,
    Intercept,
    mix_heads,
)
from .base import ModuleSite, Site, StandIn
from .branch import Branch, Parts
from .merging import Cells, Merging, PoolingMixer
from .start import Start, of_map, second, with_extra_tokens
from .windows import PlainCut, StandInSelf, WindowAttention

__all__ = [
    'AnyAttention', 'Attention', 'Branch', 'CaughtAttention', 'Cells',
    'Intercept', 'Merging', 'ModuleSite', 'Parts', 'PlainCut', 'PoolingMixer',
    'Site', 'StandIn', 'StandInSelf', 'Start', 'WindowAttention', 'mix_heads',
    'of_map', 'second', 'with_extra_tokens'
]
