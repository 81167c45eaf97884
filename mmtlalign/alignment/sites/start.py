"""Where a backbone turns an image into tokens."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .base import Site


def second(out: tuple, *args) -> tuple[int, int]:
    """Grid of an embedding that returns (tokens, (rows, cols))."""
    return tuple(out[1])


def of_map(out: Tensor, *args) -> tuple[int, int]:
    """Grid of an embedding that returns a map (B, C, rows, cols)."""
    rows, cols = out.shape[-2:]
    return rows, cols


class Start(Site):
    """The patch embedding: tokens take the shares of their patches.

    Extra tokens, which stand before the patches, start with the mean over patches, the area's
    share (TL-Align, arXiv 2210.06455, section 3.2).

    Args:
        module (nn.Module): Whose ``forward`` turns images into tokens.
        num_extra_tokens (int): Class and other tokens. Defaults to 0.
        grid_of (Callable): (rows, cols) from what the module returned and was given. Defaults to
            the second of what it returned.
    """

    in_block = False

    def __init__(
        self, module: nn.Module, num_extra_tokens: int = 0, grid_of: Callable = second
    ) -> None:
        super().__init__(module)
        self.num_extra_tokens = num_extra_tokens
        self.grid_of = grid_of

    def after(self, out, images: Tensor, *args) -> None:
        share = self.trace.begin(images, self.grid_of(out, images))
        self.move(with_extra_tokens(share.flatten(1), self.num_extra_tokens))

    def first_grid(self, images: Tensor) -> tuple[int, int]:
        """The (rows, cols) on which images would be embedded."""
        # of a copy, as batch norms of a stem would count these images
        embed = copy.deepcopy(self.module).eval()
        with torch.no_grad():
            return self.grid_of(embed(images), images)


def with_extra_tokens(share: Tensor, count: int) -> Tensor:
    """Put tokens with the mean share before those of patches (B, N)."""
    if not count:
        return share
    mean = share.mean(dim=1, keepdim=True)
    return torch.cat((mean.expand(-1, count), share), dim=1)
