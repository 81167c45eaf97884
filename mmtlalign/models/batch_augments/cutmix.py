"""CutMix (arXiv 1905.04899): a box in pixels, shares on the patch grid."""
import math
from typing import Tuple

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix, check_alpha
from .mix_record import MixRecord

Box = Tuple[int, int, int, int]


@BATCH_AUGMENTS.register_module()
class CutMix(BatchMix):
    """Paste one box of the partner into every image of a batch.

    ``lam ~ Beta(alpha, alpha)`` gives a box whose sides are ``sqrt(1 - lam)``
    of the image's, centred anywhere and clipped; ``lam`` is then recomputed
    from the clipped box. One lam and one box per batch.

    Args:
        alpha (float): Of Beta(alpha, alpha). Defaults to 1.
        patch_size (int): Edge of the backbone's patches in pixels.
            Defaults to 16.
        partner (str): 'reverse' or 'random'. Defaults to 'reverse'.
    """

    def __init__(self, alpha: float = 1., **kwargs) -> None:
        super().__init__(**kwargs)
        self.alpha = check_alpha(alpha)

    def draw(self, inputs: Tensor) -> MixRecord:
        batch, grid = inputs.size(0), self.grid(inputs)
        box = self.draw_box(tuple(inputs.shape[-2:]))
        share = 1 - self._covered(box, grid)
        return MixRecord(
            partner=self.draw_partner(batch),
            token_share=share.expand(batch, *grid),
            lam=share.mean().expand(batch),
            box=box,
            method=self)

    def draw_box(self, size: Tuple[int, int], even_sides: bool = False) -> Box:
        """A box ``(yl, yu, xl, xu)`` inside (rows, cols), half-open.

        Args:
            size (tuple[int]): Rows and columns to draw in.
            even_sides (bool): Round the sides down to even numbers, as
                published implementations do. Defaults to False.
        """
        ratio = math.sqrt(1 - self.draw_lam(self.alpha))
        box = []
        for length in size:
            side = int(length * ratio)
            if even_sides:
                side -= side % 2
            low = self.draw_index(length) - side // 2
            box += [max(low, 0), min(low + side, length)]
        return tuple(box)

    def _covered(self, box: Box, grid: Tuple[int, int]) -> Tensor:
        """Part of each patch that the box covers, (rows, cols)."""
        sides = []
        for low, high, count in ((*box[:2], grid[0]), (*box[2:], grid[1])):
            start = torch.arange(count) * self.patch_size
            end = start + self.patch_size
            overlap = end.clamp(max=high) - start.clamp(min=low)
            sides.append(overlap.clamp(min=0) / self.patch_size)
        return torch.outer(*sides)

    def apply(self, inputs: Tensor, record: MixRecord) -> Tensor:
        yl, yu, xl, xu = record.box
        mixed = inputs.clone()
        mixed[..., yl:yu, xl:xu] = inputs[record.partner, :, yl:yu, xl:xu]
        return mixed
