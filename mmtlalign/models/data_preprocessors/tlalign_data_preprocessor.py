"""Mixes a batch and puts the record of it on the data samples."""
from typing import List, Optional

import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord, RandomMix, mix_scores


@MODELS.register_module()
class TLAlignDataPreprocessor(ClsDataPreprocessor):
    """The host's preprocessor, with mixing that leaves a record.

    In training every data sample gets, besides ``gt_score`` (the area
    target):

    - ``own_score``, ``partner_score``: (num_classes,), float32, the scores of
      the two images that were mixed;
    - ``token_share``: (rows, cols), float32, on the CPU, the part of each
      patch that belongs to the sample's own image;
    - ``lam``: scalar, float32, on the CPU, the part of the image that does.

    Validation and test are the host's own.

    Args:
        num_classes (int): Number of classes.
        mean (Sequence[Number]): Pixel mean per channel.
        std (Sequence[Number]): Pixel standard deviation per channel.
        batch_augments (dict, optional): ``augments`` and ``probs`` of
            :class:`RandomMix`. Defaults to None, which mixes nothing.
        **kwargs: Other arguments of mmpretrain's ``ClsDataPreprocessor``.

    Raises:
        ValueError: Without ``num_classes`` or ``mean``; in training, samples
            without a ``gt_score`` whose labels are none or several.
    """

    def __init__(self,
                 num_classes: Optional[int] = None,
                 mean=None,
                 std=None,
                 batch_augments: Optional[dict] = None,
                 **kwargs) -> None:
        for name, value in (('num_classes', num_classes), ('mean', mean)):
            if value is None:
                raise ValueError(
                    f'TLAlignDataPreprocessor needs `{name}`. Write '
                    '`data_preprocessor = dict(num_classes=..., mean=..., '
                    'std=...)` at the top level of the config, without '
                    '`type`, and nothing of it inside `model` (where it '
                    'would replace the top-level one).')
        super().__init__(
            mean=mean,
            std=std,
            num_classes=num_classes,
            **{'to_onehot': bool(batch_augments), **kwargs})
        if batch_augments:
            self.batch_augments = RandomMix(**batch_augments)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack, normalise and, in training, mix.

        Args:
            data (dict): ``inputs`` and ``data_samples`` of a batch.
            training (bool): Whether to mix. Defaults to False.

        Returns:
            dict: ``inputs`` (B, C, H, W) and ``data_samples``.
        """
        mixes = training and self.batch_augments is not None
        if mixes:
            _require_single_label(data.get('data_samples'))
        # For the host `training` only means mixing, which loses the record.
        batch = super().forward(data, training=False)
        if mixes:
            self.mix(batch)
        return batch

    def mix(self, batch: dict) -> MixRecord:
        """Mix the images of a batch; leave the record on its samples."""
        inputs = batch['inputs']
        record = self.batch_augments.draw(inputs)
        batch['inputs'] = self.mix_images(inputs, record)
        _set_record(batch['data_samples'], record)
        return record

    def mix_images(self, inputs: Tensor, record: MixRecord) -> Tensor:
        """Mixed images (B, C, H, W)."""
        return self.batch_augments.apply(inputs, record)


def _require_single_label(data_samples: Optional[List[DataSample]]) -> None:
    for i, sample in enumerate(data_samples or [None]):
        if not isinstance(sample, DataSample):
            raise ValueError(
                f'Sample {i} is {type(sample).__name__}; mixing needs a '
                'DataSample with one label per image.')
        if 'gt_score' in sample:
            continue
        labels = sample.gt_label.tolist() if 'gt_label' in sample else []
        if len(labels) != 1:
            raise ValueError(
                f'Sample {i} has labels {labels}; mixing needs exactly one '
                'per image, or a `gt_score`.')


def _set_record(data_samples: List[DataSample], record: MixRecord) -> None:
    own: Tensor = torch.stack([sample.gt_score for sample in data_samples])
    own = own.float()
    scores = mix_scores(own, record)
    partner = own[record.partner]
    for i, sample in enumerate(data_samples):
        sample.set_gt_score(scores[i])
        sample.own_score = own[i]
        sample.partner_score = partner[i]
        sample.token_share = record.token_share[i]
        sample.lam = record.lam[i]
