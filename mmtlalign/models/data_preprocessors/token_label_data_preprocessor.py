"""Expands token labels once per batch, on the device."""
from typing import List, Tuple

import numpy as np
import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord, MixToken
from .tlalign_data_preprocessor import TLAlignDataPreprocessor
from .token_scores import crop_scores, expand_maps


@MODELS.register_module()
class TokenLabelDataPreprocessor(TLAlignDataPreprocessor):
    """Mixes a batch and turns its token labels into targets.

    In training, samples get what :class:`TLAlignDataPreprocessor` leaves and

    - ``token_partner``: scalar, int64, on the CPU, only if the batch was
      drawn by :class:`MixToken`: the sample whose tokens take the place of
      this one's where ``token_share`` is 0. The images are left as they are;

    and, if the pipeline loaded ``token_labels``,

    - ``gt_token_score``: (rows * cols, num_classes), float32, the target of
      every patch of the image, mixed if the images were;
    - ``machine_score``, ``partner_machine_score``: (num_classes,), float32,
      the annotator's scores over the whole crop, and its partner's.

    Args: Those of :class:`TLAlignDataPreprocessor`.

    Raises:
        ValueError: If token labels are for another number of classes, or for
            another image than the one that came with them.
    """

    def mix_images(self, inputs: Tensor, record: MixRecord) -> Tensor:
        if isinstance(record.method, MixToken):
            return inputs
        return super().mix_images(inputs, record)

    def mix(self, batch: dict) -> MixRecord:
        record = super().mix(batch)
        samples = batch['data_samples']
        in_backbone = isinstance(record.method, MixToken)
        if in_backbone:
            for sample, partner in zip(samples, record.partner):
                sample.token_partner = partner
        if 'token_labels' in samples[0]:
            for sample in samples:
                self._check(sample, batch['inputs'])
            tokens, crops = self._scores(
                samples, tuple(record.token_share.shape[1:]))
            if not in_backbone:
                tokens = _mix(tokens, record)
            _set_scores(samples, tokens, crops, record.partner)
        return record

    @torch.no_grad()
    def _scores(self, samples: List[DataSample],
                grid: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
        """Scores of all tokens (B, N, K), and of whole crops (B, K)."""
        labels = [sample.token_labels for sample in samples]
        ids, scores, boxes = (
            torch.from_numpy(np.stack([getattr(label, name)
                                       for label in labels])).to(self.device)
            for name in ('ids', 'scores', 'box'))
        mode = labels[0].score_mode
        maps = expand_maps(ids, scores, self.num_classes, mode)
        tokens = crop_scores(maps, boxes, grid, mode)
        crops = crop_scores(maps, boxes, (1, 1), mode)
        return tokens, crops[:, 0]

    def _check(self, sample: DataSample, inputs: Tensor) -> None:
        labels, where = sample.token_labels, sample.get('img_path', 'an image')
        if labels.num_classes != self.num_classes:
            raise ValueError(
                f'The token labels of {where} are for {labels.num_classes} '
                f'classes, the data preprocessor for {self.num_classes}; '
                'annotate the data set with a classifier of its own classes.')
        size = tuple(inputs.shape[-2:])
        flip = sample.get('flip', False)
        if labels.image_size != size or labels.flip != flip:
            raise ValueError(
                f'The token labels of {where} are for an image of '
                f'{labels.image_size} pixels, flip={labels.flip}, but it is '
                f'now {size}, flip={flip}. A transform moved the image alone: '
                'after LoadTokenLabels use mmtlalign.RandomResizedCrop, '
                'mmtlalign.RandomFlip and mmtlalign.RandAugment.')


def _mix(tokens: Tensor, record: MixRecord) -> Tensor:
    """Scores of tokens (B, N, K) of images that were mixed."""
    share = record.token_share.flatten(1)[..., None].to(tokens.device)
    return share * tokens + (1 - share) * tokens[record.partner]


def _set_scores(samples: List[DataSample], tokens: Tensor, crops: Tensor,
                partner: Tensor) -> None:
    partners = crops[partner]
    for i, sample in enumerate(samples):
        sample.gt_token_score = tokens[i]
        sample.machine_score = crops[i]
        sample.partner_machine_score = partners[i]
