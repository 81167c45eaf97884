"""TokenMix's mask (arXiv 2207.08409, section 3.2): several rectangles."""

import math

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix
from .mix_record import MixRecord

ATTEMPTS = 10  # at one more rectangle, before the mask is left as it is
ASPECT = 0.3  # sides of a rectangle are 1 : .3 at most


@BATCH_AUGMENTS.register_module()
class TokenMix(BatchMix):
    """Fill rectangles of patches with the partner's, up to a part of all.

    Their area is uniform from one patch to what is left to fill, their aspect
    uniform in its logarithm. One mask per batch. As published, the part does
    not vary; it falls short where no further rectangle was found to fit.

    Args:
        ratio (float): The part of the patches to take from the partner.
            Defaults to 4/7: the published 112 of 196.
        **kwargs: ``patch_size`` and ``partner`` of :class:`BatchMix`.

    Raises:
        ValueError: If ``ratio`` is not between 0 and 1.
    """

    def __init__(self, ratio: float = 4 / 7, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 < ratio < 1:
            raise ValueError(f'ratio={ratio} of the patches must be between 0 and 1.')
        self.ratio = ratio

    def draw(self, inputs: Tensor) -> MixRecord:
        share = torch.ones(self.grid(inputs), device='cpu')
        left = round(self.ratio * share.numel())
        while left > 0:
            taken = self._take_rectangle(share, left)
            if not taken:
                break
            left -= taken
        return self.record(inputs, share)

    def _take_rectangle(self, share: Tensor, most: int) -> int:
        """Set one rectangle to 0; how many patches are newly so."""
        for _ in range(ATTEMPTS):
            area = self.draw_uniform(1, most)
            aspect = math.exp(self.draw_uniform(math.log(ASPECT), -math.log(ASPECT)))
            sides = [max(1, round(math.sqrt(part))) for part in (area * aspect, area / aspect)]
            spare = [length - side for side, length in zip(sides, share.shape)]
            if min(spare) <= 0:
                continue
            top, left = (self.draw_index(length + 1) for length in spare)
            rectangle = share[top : top + sides[0], left : left + sides[1]]
            new = int(rectangle.sum())
            if 0 < new <= most:
                rectangle.zero_()
                return new
        return 0
