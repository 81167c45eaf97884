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

    Args: Those of :class:`MaskMix`, which also tells what is raised.
    """

    def draw(self, inputs: Tensor) -> MixRecord:
        cells = self.cells(inputs)
        ratio = self.draw_lam(self.alpha)
        drawn = torch.rand(cells, generator=self.generator, device='cpu')
        return self.record(inputs, self.on_patches((drawn < ratio).float()))
