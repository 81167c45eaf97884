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

    No image is mixed in, so labels stay; nor do shares tell of it. One box per image.

    Args:
        ratio (float): Sides of the box as a part of the image's. Defaults to
            0.5, the published 16 of 32 pixels for CIFAR-10.
        **kwargs: ``patch_size`` of :class:`BatchMix`.

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
        sides = [round(self.ratio * length) for length in size]
        boxes = [covered(self.place_box(size, sides), size) for _ in inputs]
        return self.unmixed(inputs, pixel_share=1 - torch.stack(boxes))

    def apply(self, inputs: Tensor, record: MixRecord) -> Tensor:
        kept = record.pixel_share.to(inputs, non_blocking=True)
        return inputs * kept[:, None]
