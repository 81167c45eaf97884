"""HiViT of mmpretrain (arXiv 2205.14949).

Before the main stage every patch is worked on by itself: MLPs, and mergings
of its own inner patches. So labels start on the grid of the main stage and
move in its global attention only.
"""

from functools import partial

from torch import Tensor, nn

from ..sites import CaughtAttention, Start
from . import Family, register_family, stock


@register_family('mmpretrain.HiViT')
class HiViT(Family):
    """Every main block mixes all tokens."""

    def __init__(self, backbone: nn.Module) -> None:
        blocks = [
            stock(backbone, block, 'mmpretrain.BlockWithRPE', attn='mmpretrain.Attention')
            for block in backbone.blocks[-backbone.num_main_blocks :]
        ]
        embed = backbone.patch_embed
        self.lay_out(
            Start(embed, grid_of=partial(_grid, embed)),
            [[CaughtAttention(block.attn)] for block in blocks],
            backbone.out_indices,
        )


def _grid(embed: nn.Module, tokens: Tensor, images: Tensor):
    return tuple(length // patch for length, patch in zip(images.shape[-2:], embed.patch_size))
