"""Cutout (arXiv 1708.04552): a square of each image is blanked."""

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix
from .cutmix import covered
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class Cutout(BatchMix):
    """Set a box of each image to 0, the mean after normalisation.

    No image is mixed in, so labels stay; nor do shares tell of the box. Its
    centre is anywhere in the image, and it is clipped there. One per image.

    Args:
        ratio (float): Sides of the box as a part of the image's. Defaults to
            0.5, the published 16 of 32 pixels for CIFAR-10.
        patch_size (int): Edge of the backbone's patches in pixels. Defaults to 16.

    Raises:
        ValueError: If ``ratio`` is not between 0 and 1.
    """

    def __init__(self, ratio: float = 0.5, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 < ratio <= 1:
            raise ValueError(f'ratio={ratio} of the sides must be more than 0 and at most 1.')
        self.ratio = ratio

    def draw(self, inputs: Tensor) -> MixRecord:
        size = tuple(inputs.shape[-2:])
        boxes = [covered(self._draw_box(size), size) for _ in inputs]
        return self.unmixed(inputs, pixel_share=1 - torch.stack(boxes))

    def _draw_box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        box = []
        for length in size:
            side = round(self.ratio * length)
            low = self.draw_index(length) - side // 2
            box += [max(low, 0), min(low + side, length)]
        return tuple(box)

    def apply(self, inputs: Tensor, record: MixRecord) -> Tensor:
        kept = record.pixel_share.to(inputs, non_blocking=True)
        return inputs * kept[:, None]
