"""Expands token labels once per batch, on the device."""

import numpy as np
import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.registry import MODELS

from .tlalign_data_preprocessor import TLAlignDataPreprocessor
from .token_scores import crop_scores, expand_maps


@MODELS.register_module()
class TokenLabelDataPreprocessor(TLAlignDataPreprocessor):
    """Mixes a batch and turns its token labels into scores.

    In training, if the pipeline loaded ``token_labels``, samples also get

    - ``gt_token_score``: (rows * cols, num_classes), float32, the scores of every patch of the
      sample's own image;
    - ``machine_score``: (num_classes,), float32, the annotator's scores over the whole crop.

    Both are those of the image before it was mixed, as ``gt_score`` is.

    Args: Those of :class:`TLAlignDataPreprocessor`.

    Raises:
        ValueError: If token labels are for another number of classes, or for another image than the
            one that came with them.
    """

    def mix(self, batch: dict) -> None:
        super().mix(batch)
        samples = batch['data_samples']
        if 'token_labels' not in samples[0]:
            return
        for sample in samples:
            self._check(sample, batch['inputs'])
        tokens, crops = self._scores(samples, tuple(batch['mix'].token_share.shape[1:]))
        for sample, token_score, score in zip(samples, tokens, crops):
            sample.gt_token_score = token_score
            sample.machine_score = score

    @torch.no_grad()
    def _scores(self, samples: list[DataSample], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Scores of all tokens (B, N, K), and of whole crops (B, K)."""
        labels = [sample.token_labels for sample in samples]
        ids, scores, boxes = (
            torch.from_numpy(np.stack([getattr(label, name) for label in labels])).to(self.device)
            for name in ('ids', 'scores', 'box')
        )
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
                'annotate the data set with a classifier of its own classes.'
            )
        size = tuple(inputs.shape[-2:])
        flip = sample.get('flip', False)
        if labels.image_size != size or labels.flip != flip:
            raise ValueError(
                f'The token labels of {where} are for an image of {labels.image_size} pixels, '
                f'flip={labels.flip}, but it is now {size}, flip={flip}. A transform moved the '
                'image alone: after LoadTokenLabels use mmtlalign.RandomResizedCrop, '
                'mmtlalign.RandomFlip and mmtlalign.RandAugment.'
            )
