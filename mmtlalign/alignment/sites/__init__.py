"""The kinds of place where tokens mix: each runs the stock call and moves
the shares beside it."""

from .attention import Attention, CaughtAttention, mix_heads
from .base import Site, StandIn
from .branch import Branch, Parts
from .merging import Cells, Merging, PoolingMixer
from .start import Start, of_map, second, with_extra_tokens
from .windows import StandInSelf, WindowAttention
