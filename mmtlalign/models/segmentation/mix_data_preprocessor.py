"""Mixes a batch of images and of their label maps."""

import torch
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from torch import Tensor

from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord, RandomMix


@MODELS.register_module()
class MixSegDataPreProcessor(SegDataPreProcessor):
    """The host's preprocessor, with CutMix and its like for segmentation.

    CutMix (arXiv 1905.04899) of pixels and of what they are labelled with, as French et al. paste
    it (arXiv 1906.01916), here with labels for both. It happens after padding: padding is pasted
    like anything else, and stays ignored wherever it lies.

    The batch then goes to any segmentor of the host. One that takes the record of the mix,
    :class:`TLAlignEncoderDecoder`, says so by setting ``record_is_taken``; samples then keep their
    own label maps, and the record travels beside them as ``mix``.

    Validation and test are the host's own.

    Args:
        batch_augments (dict, optional): ``augments`` and ``probs`` of :class:`RandomMix`. Methods
            need a ``patch_size`` that divides the padded images (``size_divisor``). Defaults to
            None, which mixes nothing.
        **kwargs: Other arguments of mmseg's ``SegDataPreProcessor``.

    Raises:
        ValueError: In training, from a method that blends pixels, unless the record is taken: a
            label map has one class a pixel.
    """

    def __init__(self, batch_augments: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.mixing = RandomMix(**batch_augments) if batch_augments else None
        self.record_is_taken = False

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, pad and stack a batch; in training, mix it, with its record as ``mix`` if that
        is taken."""
        batch = super().forward(data, training)
        if training and self.mixing is not None:
            record = self.mixing.draw(batch['inputs'])
            batch['inputs'] = self.mixing.apply(batch['inputs'], record)
            if self.record_is_taken:
                batch['mix'] = record
            else:
                paste_label_maps(batch['data_samples'], record, self.mixing.pixels(record))
        return batch


def paste_label_maps(data_samples: list[SegDataSample], record: MixRecord, kept: Tensor) -> None:
    """Paste all maps (classes, edges, depth) of B samples of one size, as their images were.

    ``kept``, (B or 1, H, W), is 1 where a pixel is its own image's, 0 where the partner's.

    Raises:
        ValueError: If pixels were blended.
    """
    if ((kept > 0) & (kept < 1)).any():
        raise ValueError(
            'pixels of two images were blended, and a label map has one class '
            'a pixel; use a method that pastes, such as mmtlalign.CutMix, or '
            "set the model's type to 'mmtlalign.TLAlignEncoderDecoder'."
        )
    kept = (kept > 0).expand(len(data_samples), -1, -1)
    for name in [name for name, field in data_samples[0].items() if isinstance(field, PixelData)]:
        maps = [sample.get(name).data for sample in data_samples]
        for sample, own, keep, j in zip(
            data_samples, maps, kept.to(maps[0].device), record.partner.tolist()
        ):
            sample.get(name).data = torch.where(keep, own, maps[j])
