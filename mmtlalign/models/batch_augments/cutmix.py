"""CutMix: a box of pixels (arXiv 1905.04899), or of patches (arXiv 2210.06455, section 3.2)."""

import math

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix, Box, check_alpha
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class CutMix(BatchMix):
    """Paste one box of the partner into every image of a batch.

    ``lam ~ Beta(alpha, alpha)`` gives a box whose sides are ``sqrt(1 - lam)`` of the image's,
    centred anywhere and clipped, of which ``lam`` is then recomputed. One of both per batch.

    Args:
        alpha (float): Of Beta(alpha, alpha). Defaults to 1.
        **kwargs: ``patch_size`` and ``partner`` of :class:`BatchMix`.
    """

    def __init__(self, alpha: float = 1.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.alpha = check_alpha(alpha)

    def draw(self, inputs: Tensor) -> MixRecord:
        grid, size = self.grid(inputs), tuple(inputs.shape[-2:])
        box = self.draw_box(size)
        return self.record(
            inputs,
            1 - covered(box, grid, self.patch_size),
            pixel_share=1 - covered(box, size)[None],
        )

    def draw_box(self, size: tuple[int, int], even_sides: bool = False) -> Box:
        """A box ``(yl, yu, xl, xu)`` inside (rows, cols), half-open; with ``even_sides`` its sides
        are rounded down to even numbers, as published implementations do."""
        ratio = math.sqrt(1 - self.draw_lam(self.alpha))
        step = 2 if even_sides else 1
        return self.place_box(size, [int(length * ratio) // step * step for length in size])


@BATCH_AUGMENTS.register_module()
class TokenCutMix(CutMix):
    """CutMix whose box never splits a patch: every token has one owner.

    Args:
        alpha (float): Of Beta(alpha, alpha). Defaults to 1.
        even_sides (bool): Boxes with an even number of patches per side only, as in the published
            implementation; they paste less (0.27 of the image on a 14x14 grid instead of 0.29,
            alpha 1) and leave more batches unmixed. Defaults to False.
        **kwargs: ``patch_size`` and ``partner`` of :class:`BatchMix`.
    """

    def __init__(self, alpha: float = 1.0, even_sides: bool = False, **kwargs) -> None:
        super().__init__(alpha=alpha, **kwargs)
        self.even_sides = even_sides

    def draw(self, inputs: Tensor) -> MixRecord:
        grid = self.grid(inputs)
        box = self.draw_box(grid, self.even_sides)
        return self.record(inputs, 1 - covered(box, grid))


def covered(box: Box, grid: tuple[int, int], cell: int = 1) -> Tensor:
    """The part of each cell of a grid, (rows, cols), in [0, 1], that a box ``(yl, yu, xl, xu)``,
    half-open, covers. The edge of a cell is in units of the box; it defaults to 1."""
    sides = []
    for low, high, count in ((*box[:2], grid[0]), (*box[2:], grid[1])):
        start = torch.arange(count) * cell
        overlap = (start + cell).clamp(max=high) - start.clamp(min=low)
        sides.append(overlap.clamp(min=0) / cell)
    return torch.outer(*sides)
