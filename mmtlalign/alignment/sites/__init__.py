"""The kinds of place where tokens mix: each runs the stock call and moves
the shares beside it."""
from .attention import (
    Attention,
    CatchSoftmax,
    CaughtAttention,
    InterceptAttention,
    mix_heads,
)
from .base import Site
from .branch import Branch, Parts
from .merging import Cells, Merging, PoolingMixer
from .start import Start, of_map, second, with_extra_tokens
from .windows import Geometry, PlainWindows, WindowAttention

__all__ = [
    'Attention', 'Branch', 'CatchSoftmax', 'CaughtAttention', 'Cells',
    'Geometry', 'InterceptAttention', 'Merging', 'Parts', 'PlainWindows',
    'PoolingMixer', 'Site', 'Start', 'WindowAttention', 'mix_heads', 'of_map',
    'second', 'with_extra_tokens'
]
