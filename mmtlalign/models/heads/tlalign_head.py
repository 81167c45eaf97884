"""Heads of the host whose training target follows the shares."""
from typing import List, Optional, Tuple

import torch
from mmpretrain.models import LinearClsHead, VisionTransformerClsHead
from mmpretrain.models.losses import LabelSmoothLoss
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.registry import MODELS


class _AlignedTarget:
    """Mixin: ``share * own_score + (1 - share) * partner_score`` as target.

    TL-Align (arXiv 2210.06455, section 3.3). Smoothing is the loss's; it is
    linear, so it may come after the mix.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        loss = self.loss_module
        if isinstance(loss, LabelSmoothLoss) and loss.mode == 'multi_label':
            raise ValueError(
                "LabelSmoothLoss(mode='multi_label') turns every score above "
                "0 into 1 and so discards the shares; use mode='original', "
                'with use_sigmoid=True for binary cross entropy.')
        if self.cal_acc:
            raise ValueError('cal_acc=True is meaningless on mixed labels; '
                             'set it to False.')

    def _get_loss(self,
                  cls_score: Tensor,
                  data_samples: List[DataSample],
                  share: Optional[Tensor] = None,
                  **kwargs) -> dict:
        """Loss of scores (B, num_classes) against aligned targets.

        Args:
            cls_score (Tensor): (B, num_classes).
            data_samples (list[DataSample]): With ``own_score`` and
                ``partner_score``.
            share (Tensor, optional): (B,), each sample's share of its own
                label. Defaults to None: ``gt_score`` is the target.
            **kwargs: Passed to the loss module.
        """
        if share is None:
            losses = super()._get_loss(cls_score, data_samples, **kwargs)
            # the host's mean is over samples
            scale = cls_score.size(0) / self._avg_factor(cls_score)
            return {key: scale * loss for key, loss in losses.items()}
        own, partner = self._own_and_partner(data_samples)
        share = share[:, None].to(own)
        target = share * own + (1 - share) * partner
        loss = self.loss_module(
            cls_score, target, avg_factor=self._avg_factor(cls_score),
            **kwargs)
        return dict(loss=loss)

    def _own_and_partner(
            self, data_samples: List[DataSample]) -> Tuple[Tensor, Tensor]:
        """Scores of each image and of its partner, (B, num_classes)."""
        own = torch.stack([sample.own_score for sample in data_samples])
        partner = torch.stack(
            [sample.partner_score for sample in data_samples])
        return own, partner

    def _avg_factor(self, cls_score: Tensor) -> int:
        """Samples; for binary cross entropy also classes, over which the
        host's loss would otherwise sum."""
        ce = getattr(self.loss_module, 'ce', self.loss_module)
        if getattr(ce, 'use_sigmoid', False):
            return cls_score.numel()
        return cls_score.size(0)


@MODELS.register_module()
class TLAlignVisionTransformerClsHead(_AlignedTarget,
                                      VisionTransformerClsHead):
    """``VisionTransformerClsHead`` trained on aligned labels.

    Same arguments, parameters and predictions as the host's; ``loss`` takes
    ``share`` (B,).

    Raises:
        ValueError: ``LabelSmoothLoss(mode='multi_label')`` or ``cal_acc``.
    """


@MODELS.register_module()
class TLAlignLinearClsHead(_AlignedTarget, LinearClsHead):
    """``LinearClsHead`` trained on aligned labels.

    Same arguments, parameters and predictions as the host's; ``loss`` takes
    ``share`` (B,).

    Raises:
        ValueError: ``LabelSmoothLoss(mode='multi_label')`` or ``cal_acc``.
    """
