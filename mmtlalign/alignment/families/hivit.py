"""HiViT of mmpretrain (arXiv 2205.14949).

Before the main stage every patch is worked on by itself: MLPs, and mergings
of its own inner patches. So labels start on the grid of the main stage and
move in its global attention only.
"""
from functools import partial

from torch import Tensor, nn

from ..sites import CaughtAttention, Start
from . import (
    Family,
    check_out_indices,
    name_of,
    refuse_dropout,
    register_family,
    require_exact,
)


@register_family('mmpretrain.HiViT')
class HiViT(Family):
    """Raises ValueError for attention dropout."""

    def __init__(self, backbone: nn.Module) -> None:
        blocks = backbone.blocks[-backbone.num_main_blocks:]
        for block in blocks:
            require_exact(backbone, block, 'mmpretrain.BlockWithRPE')
            require_exact(backbone, block.attn, 'mmpretrain.Attention')
            refuse_dropout(name_of(backbone, block.attn),
                           block.attn.attn_drop.p)
        sites = [CaughtAttention(block.attn, through=block.attn.attn_drop)
                 for block in blocks]
        embed = backbone.patch_embed
        self.sites = [Start(embed, grid_of=partial(_grid, embed)), *sites]
        self.output = sites[check_out_indices(backbone.out_indices,
                                              len(sites))]


def _grid(embed: nn.Module, tokens: Tensor, images: Tensor):
    return tuple(length // patch for length, patch in zip(
        images.shape[-2:], embed.patch_size))
