"""CutMix on the patch grid, as in TL-Align (arXiv 2210.06455, section 3.2)."""

from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .cutmix import CutMix, covered
from .mix_record import MixRecord


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
