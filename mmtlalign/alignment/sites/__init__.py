"""The kinds of place where tokens mix: each runs the stock call and moves
the shares beside it."""

from .attention import AnyAttention, Attention, CaughtAttention, mix_heads
from .base import Site, StandIn
from .branch import Branch, Parts
from .embedding import Cells, Merging, PoolingMixer, Start, of_map, second, with_extra_tokens
from .windows import WindowAttention
