"""Random cells of a grid: MaskMix (MixPro, arXiv 2304.12043, section 3.2), where they are as many
in every image, and GridMix (doi 10.1016/j.patcog.2020.107594), where each is drawn by itself."""

import math

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix, check_alpha
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class MaskMix(BatchMix):
    """Keep ``ceil(cells * r)`` random cells of each image.

    ``r ~ Beta(alpha, alpha)``, once per batch; which cells, once per image.
    The partner has the others.

    Args:
        alpha (float): Of Beta(alpha, alpha). Defaults to 1.
        cell_size (int): Edge of a cell in patches, which must divide the grid
            of patches. Defaults to 2.
        partner (str): As in :class:`BatchMix`. Defaults to 'random', as published.
        **kwargs: ``patch_size`` of :class:`BatchMix`.

    Raises:
        ValueError: If ``cell_size`` is no positive integer; in training, if
            it does not divide the grid.
    """

    def __init__(
        self, alpha: float = 1.0, cell_size: int = 2, partner: str = 'random', **kwargs
    ) -> None:
        super().__init__(partner=partner, **kwargs)
        self.alpha = check_alpha(alpha)
        if not isinstance(cell_size, int) or cell_size < 1:
            raise ValueError(
                f'cell_size={cell_size!r} must be a positive '
                'integer, the edge of a cell in patches.'
            )
        self.cell_size = cell_size

    def draw(self, inputs: Tensor) -> MixRecord:
        batch, (rows, cols) = inputs.size(0), self.cells(inputs)
        count = math.ceil(rows * cols * self.draw_lam(self.alpha))
        order = torch.rand(batch, rows * cols, generator=self.generator, device='cpu').argsort(
            dim=1
        )
        kept = (order < count).float().view(batch, rows, cols)
        return self.record(inputs, self.on_patches(kept))

    def cells(self, inputs: Tensor) -> tuple[int, int]:
        """Rows and columns of cells in images (B, C, H, W)."""
        rows, cols = self.grid(inputs)
        if rows % self.cell_size or cols % self.cell_size:
            raise ValueError(
                f'A grid of {rows}x{cols} patches cannot be divided into '
                f'cells of cell_size={self.cell_size} patches; change it.'
            )
        return rows // self.cell_size, cols // self.cell_size

    def on_patches(self, cells: Tensor) -> Tensor:
        """Values of cells (..., rows, cols), written to their patches."""
        size = self.cell_size
        return cells.repeat_interleave(size, -2).repeat_interleave(size, -1)


@BATCH_AUGMENTS.register_module()
class GridMix(MaskMix):
    """Draw for every cell of a grid which of the two images it shows.

    Each is an own one with probability ``r ~ Beta(alpha, alpha)``; ``lam`` is
    then the part that is. One ``r`` and one mask per batch.

    Args: Those of :class:`MaskMix`, which also tells what is raised.
    """

    def draw(self, inputs: Tensor) -> MixRecord:
        cells = self.cells(inputs)
        ratio = self.draw_lam(self.alpha)
        drawn = torch.rand(cells, generator=self.generator, device='cpu')
        return self.record(inputs, self.on_patches((drawn < ratio).float()))
