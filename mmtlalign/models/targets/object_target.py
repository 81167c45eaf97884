"""Labels by what is visible of the objects: the positive control."""

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord
from .label_target import LabelTarget

ENOUGH = 32  # images, all of which cannot be so by chance


@MODELS.register_module()
class ObjectTarget(LabelTarget):
    """The own object's visible part over what is visible of both.

    What a label that follows the content should say, known from masks. Where
    neither object shows a whole pixel, it is the area. Samples need an
    ``object_mask``, see :class:`mmtlalign.datasets.ObjectMask`.
    """

    def share(self, record, trace, scores, data_samples) -> Tensor:
        share = visible_share(record, data_samples)
        return share.to(scores.device, non_blocking=True)


def visible_share(
    record: MixRecord, data_samples: list[DataSample], unseen: float | None = None
) -> Tensor:
    """The own object's part of all that is visible of two objects, (B,), on the CPU.

    Args:
        record (MixRecord): What was mixed with what.
        data_samples (list[DataSample]): With an ``object_mask`` each.
        unseen (float, optional): What it is where neither object shows a whole pixel. Defaults to
            None, the area.

    Raises:
        ValueError: Samples without masks, masks of different sizes or of others than their images',
            a batch of masks without an outline, and records whose patches come from elsewhere in
            the partner.
    """
    if record.source is not None:
        raise ValueError(
            'this way to mix moves patches of the partner, '
            'which object masks do not follow; use another.'
        )
    masks = _stacked(data_samples)
    kept = record.pixel_share
    if kept is None:
        kept = F.interpolate(record.token_share[:, None], masks.shape[1:])[:, 0]
    if kept.shape[1:] != masks.shape[1:]:
        raise ValueError(
            f'object masks are of {tuple(masks.shape[1:])} pixels, but images of '
            f'{tuple(kept.shape[1:])}: let the data preprocessor pad nothing.'
        )
    own = (masks * kept).sum((1, 2))
    both = own + (masks[record.partner] * (1 - kept)).sum((1, 2))
    unseen = record.lam if unseen is None else unseen
    return torch.where(both < 1, unseen, own / both.clamp(min=1))


def _stacked(data_samples: list[DataSample]) -> Tensor:
    """Masks (B, H, W), float32 in [0, 1]."""
    if any('object_mask' not in sample for sample in data_samples):
        raise ValueError(
            'ObjectTarget reads object masks, and samples have none: use a data set that has '
            'them, such as mmtlalign.PlantedDigits, move images by the transforms of mmtlalign '
            "only, and put 'object_mask' into PackInputs' algorithm_keys."
        )
    for sample in data_samples:
        _check(sample)
    masks = [sample.object_mask.pixels for sample in data_samples]
    sizes = {mask.shape for mask in masks}
    if len(sizes) > 1:
        raise ValueError(
            f'object masks have different sizes {sorted(sizes)}; crop or resize images to one.'
        )
    stacked = np.stack(masks)
    if len(masks) >= ENOUGH and all(np.ptp(mask) == 0 for mask in masks):
        raise ValueError(
            f'all {len(masks)} object masks of a batch show object everywhere or nowhere, so that '
            'labels would be those by area: do the masks fit the images, and have LoadObjectMask '
            'the values= of the objects (Oxford Pets: (1, 3))?'
        )
    return torch.from_numpy(stacked).float() / 255


def _check(sample: DataSample) -> None:
    """The image's size and whether it was mirrored are the mask's, as far as it tells."""
    mask = sample.object_mask
    flip = sample.get('flip', mask.flip)  # where PackInputs hands that on
    size = tuple(sample.get('img_shape', mask.image_size))[:2]
    if mask.image_size != size or mask.flip != flip:
        raise ValueError(
            f'The object mask of {sample.get("img_path", "an image")} is for an image of '
            f'{mask.image_size} pixels, flip={mask.flip}, but it is now {size}, flip={flip}. A '
            'transform moved the image alone: use those of mmtlalign.'
        )
