"""HiViT of mmpretrain (arXiv 2205.14949).

Before the main stage every patch is worked on by itself: MLPs, and mergings of its own inner
patches. So labels start on the grid of the main stage and move in its global attention only.
"""

from functools import partial

from torch import Tensor, nn

from ..sites import CaughtAttention, Start
from . import Family, register_family, stock


@register_family('mmpretrain.HiViT')
class HiViT(Family):
    """Every main block mixes all tokens."""

    def __init__(self, backbone: nn.Module) -> None:
        blocks = []
        for block in backbone.blocks[-backbone.num_main_blocks :]:
            stock(backbone, block, 'mmpretrain.BlockWithRPE', attn='mmpretrain.Attention')
            blocks.append([CaughtAttention(block.attn)])
        start = Start(backbone.patch_embed, grid_of=partial(_grid, backbone.patch_embed))
        self.lay_out(start, blocks, backbone.out_indices)


def _grid(embed: nn.Module, tokens: Tensor, images: Tensor):
    return tuple(length // patch for length, patch in zip(images.shape[-2:], embed.patch_size))
