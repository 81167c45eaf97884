"""GridMix (doi 10.1016/j.patcog.2020.107594): every cell of either image."""

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .maskmix import MaskMix
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class GridMix(MaskMix):
    """Draw for every cell of a grid which of the two images it shows.

    Each is an own one with probability ``r ~ Beta(alpha, alpha)``; ``lam`` is
    then the part that is. One ``r`` and one mask per batch.

    Args:
        alpha (float): Of Beta(alpha, alpha). Defaults to 1.
        cell_size (int): Edge of a cell in patches, which must divide the grid
            of patches. Defaults to 2.
        partner (str): As in :class:`BatchMix`. Defaults to 'random'.
        **kwargs: ``patch_size`` of :class:`BatchMix`.

    Raises:
        ValueError: As :class:`MaskMix`.
    """

    def draw(self, inputs: Tensor) -> MixRecord:
        cells = self.cells(inputs)
        ratio = self.draw_lam(self.alpha)
        drawn = torch.rand(cells, generator=self.generator, device='cpu')
        return self.record(inputs, self.on_patches((drawn < ratio).float()))
