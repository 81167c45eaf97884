"""Changing the tokens that a backbone starts from."""

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmtlalign.alignment.families import build_family
from mmtlalign.alignment.sites import second
from mmtlalign.interception import Interception, inside_checkpoint


class PatchEmbedding:
    """The start of a backbone, where a mixing of tokens takes hold.

    Args:
        backbone (nn.Module): Of a family whose patch embedding returns ``(tokens, (rows, cols))``.

    Raises:
        TypeError: Another backbone.
    """

    def __init__(self, backbone: nn.Module) -> None:
        start = build_family(backbone).sites[0]
        if start.grid_of is not second:
            raise TypeError(
                f'{type(backbone).__name__} has no patch_embed that returns '
                'tokens and their grid, so its tokens cannot be mixed; use a '
                'backbone of patches, such as mmtlalign.LVViT.'
            )
        self.module = start.module

    @contextmanager
    def changed(self, change: Callable[[Tensor], Tensor], shape: tuple[int, int, int]):
        """Change the tokens of every forward in this context.

        Args:
            change (Callable): Tokens (B, N, C) -> tokens.
            shape (tuple[int]): (batch, rows, cols) that it is made for.

        Raises:
            ValueError: In a forward whose tokens are on another grid.
            RuntimeError: If activation checkpointing would repeat the change,
                which it does outside of this context, and so without it.
        """
        trains, stock = torch.is_grad_enabled(), self.module.forward

        def forward(*args, **kwargs):
            if trains and inside_checkpoint():
                raise RuntimeError(
                    'Activation checkpointing of the whole backbone would repeat its forward '
                    'without the mixing of tokens; checkpoint its blocks instead '
                    "('backbone.layers.0', ...)."
                )
            tokens, grid = stock(*args, **kwargs)
            found = (len(tokens), *grid)
            if tuple(shape) != found:
                raise ValueError(
                    f'token_share is (batch, rows, cols) = {tuple(shape)}, but patch_embed gave '
                    f"{found}. Set the mixing method's patch_size to the backbone's."
                )
            return change(tokens), grid

        interception = Interception()
        interception.replace(self.module, 'forward', forward)
        try:
            yield
        finally:
            interception.restore()
