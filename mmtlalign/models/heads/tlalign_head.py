"""Heads of the host whose training target follows the shares."""

from collections.abc import Callable

import torch
from mmpretrain.models import (
    ClsHead,
    ConformerHead,
    DeiTClsHead,
    EfficientFormerClsHead,
    LeViTClsHead,
    LinearClsHead,
    StackedLinearClsHead,
    VigClsHead,
    VisionTransformerClsHead,
)
from mmpretrain.models.losses import LabelSmoothLoss, SeesawLoss
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord, mix_scores

# Heads of the host that train on soft labels, with their aligned forms
ALIGNED_FORMS: dict[type, type] = {}


class AlignedLabelHead:
    """Mixin: trains a head on ``share * own + (1 - share) * partner``.

    TL-Align (arXiv 2210.06455, section 3.3). It writes that target as ``gt_score`` and leaves the
    loss to the host's head. Smoothing is the loss's; it is linear, so it may come after the mix.

    ``loss`` takes ``mix``, the batch's record, and ``share``: (B,), or (B, 2) for weights of own
    and partner, or a function that computes it from the scores of the head.

    Attributes:
        reads_token_share (bool): Whether ``loss`` also takes ``token_share``,
            (B, rows, cols), as a target that weighs tokens gives it.
    """

    reads_token_share = False

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        loss = kwargs.get('loss')
        self._loss_is_weighted = not isinstance(loss, dict) or 'loss_weight' in loss

    def check_mixing(self) -> None:
        """Raise a ValueError for what cannot be trained on mixed labels."""
        loss, name = self.loss_module, type(self).__name__
        if self.cal_acc:
            raise ValueError('cal_acc=True is meaningless on mixed labels; set it to False.')
        if getattr(self, 'distillation', getattr(self, 'dist', False)):
            raise ValueError(
                f'{name} cannot be trained with distillation=True in mmpretrain; set it to False.'
            )
        if isinstance(loss, SeesawLoss):
            raise ValueError(
                'SeesawLoss needs hard labels, and mixed labels are soft; use LabelSmoothLoss.'
            )
        if isinstance(loss, LabelSmoothLoss) and loss.mode == 'multi_label':
            raise ValueError(
                "LabelSmoothLoss(mode='multi_label') turns every score above "
                "0 into 1 and so discards the shares; use mode='original', "
                'with use_sigmoid=True for binary cross entropy.'
            )
        ce = getattr(loss, 'ce', loss)
        if getattr(ce, 'use_sigmoid', False) and not self._loss_is_weighted:
            raise ValueError(
                f'{type(loss).__name__} with use_sigmoid=True sums over classes; write its '
                f'loss_weight: 1/num_classes = 1/{self.num_classes} for the mean, 1. for the sum.'
            )

    def own_scores(self, data_samples: list[DataSample]) -> Tensor:
        """Each image's own label, (B, num_classes)."""
        return torch.stack([sample.gt_score for sample in data_samples])

    def _get_loss(
        self,
        cls_score: Tensor,
        data_samples: list[DataSample],
        mix: MixRecord | None = None,
        share: Tensor | Callable[[Tensor], Tensor] | None = None,
        **kwargs,
    ) -> dict:
        """Loss of the head's scores against aligned targets; the host's without ``mix``."""
        if mix is not None:
            if callable(share):
                share = share(cls_score)
            own, share = self.own_scores(data_samples), mix.lam if share is None else share
            target = mix_scores(own, mix, share)
            data_samples = [DataSample().set_gt_score(score) for score in target]
        return super()._get_loss(cls_score, data_samples, **kwargs)


def aligned_form(stock: type) -> type:
    """Register the aligned form of a head: same arguments and parameters."""
    form = type(
        f'TLAlign{stock.__name__}',
        (AlignedLabelHead, stock),
        dict(__module__=__name__, __doc__=f'``{stock.__name__}`` trained on aligned labels.'),
    )
    ALIGNED_FORMS[stock] = MODELS.register_module(module=form)
    return form


TLAlignClsHead = aligned_form(ClsHead)
TLAlignLinearClsHead = aligned_form(LinearClsHead)
TLAlignStackedLinearClsHead = aligned_form(StackedLinearClsHead)
TLAlignVisionTransformerClsHead = aligned_form(VisionTransformerClsHead)
TLAlignDeiTClsHead = aligned_form(DeiTClsHead)
TLAlignLeViTClsHead = aligned_form(LeViTClsHead)
TLAlignConformerHead = aligned_form(ConformerHead)
TLAlignEfficientFormerClsHead = aligned_form(EfficientFormerClsHead)
TLAlignVigClsHead = aligned_form(VigClsHead)
