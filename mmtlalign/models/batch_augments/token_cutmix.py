"""CutMix on the patch grid, as in TL-Align (arXiv 2210.06455, section 3.2)."""
from typing import Tuple

from mmtlalign.registry import BATCH_AUGMENTS

from .cutmix import CutMix


@BATCH_AUGMENTS.register_module()
class TokenCutMix(CutMix):
    """CutMix whose box never splits a patch: every token has one owner.

    Args:
        alpha (float): Of Beta(alpha, alpha). Defaults to 1.
        even_sides (bool): Boxes with an even number of patches per side only,
            as in the published implementation; they paste less (0.27 of the
            image on a 14x14 grid instead of 0.29, alpha 1) and leave more
            batches unmixed. Defaults to False.
        patch_size (int): Edge of the backbone's patches in pixels.
            Defaults to 16.
        partner (str): 'reverse' or 'random'. Defaults to 'reverse'.
    """

    def __init__(self,
                 alpha: float = 1.,
                 even_sides: bool = False,
                 **kwargs) -> None:
        super().__init__(alpha=alpha, **kwargs)
        self.even_sides = even_sides

    def draw_box(self, size: Tuple[int, int]) -> Tuple[int, int, int, int]:
        """A box in pixels, ``(yl, yu, xl, xu)``, on patch borders."""
        grid = tuple(length // self.patch_size for length in size)
        box = super().draw_box(grid, self.even_sides)
        return tuple(edge * self.patch_size for edge in box)
