"""LaCViT, stage 1: label-aware contrastive training (arXiv 2303.18013)."""

import torch
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtlalign.errors import UserError
from mmtlalign.models.encoder_features import encoder_features
from mmtlalign.registry import MODELS


@MODELS.register_module()
class LaCViT(BaseSelfSupervisor):
    """An encoder and a projector, trained to tell classes apart.

    Every image comes in ``num_views`` augmented views (the host's ``MultiView`` transform). Their
    projected features meet in a supervised contrastive loss. Stage 2 is a stock ``ImageClassifier``
    that starts from the encoder, ``prefix='backbone.'``; the projector is left behind.

    There is no classifier to predict with: testing gives features, for the
    metrics of :mod:`mmtlalign.evaluation.metrics`.

    Args:
        backbone (dict): Any backbone of the host or ours.
        neck (dict): The projector, such as the host's ``MoCoV2Neck`` (linear, ReLU, linear).
        loss (dict): :class:`SupervisedContrastiveLoss`.
        **kwargs: ``data_preprocessor``, arguments of the host's ``SelfSupDataPreprocessor``, its
            default type, and ``init_cfg``, as in the host.

    Raises:
        UserError: In the first step, if the projector does not take what the backbone puts out.
    """

    def __init__(self, backbone: dict, neck: dict, loss: dict, **kwargs) -> None:
        super().__init__(backbone=backbone, neck=neck, **kwargs)
        self.loss_module = MODELS.build(loss)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """As in the host, and with ``mode='predict'``."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Encoder features (B, C) of images (B, 3, H, W)."""
        return encoder_features(self.backbone, self.backbone(inputs))

    def loss(self, inputs: Tensor | list[Tensor], data_samples: list[DataSample]) -> dict:
        """Contrastive loss of all views, and how many ``skipped_anchors`` are alone in their class.

        Args:
            inputs (list[Tensor] | Tensor): Views, each (B, 3, H, W); a tensor is a single one.
            data_samples (list[DataSample]): With ``gt_label``.
        """
        views = [inputs] if isinstance(inputs, Tensor) else inputs
        features = self.extract_feat(torch.cat(views))
        first = next((m for m in self.neck.modules() if isinstance(m, nn.Linear)), None)
        if first is not None and first.in_features != features.size(1):
            raise UserError(
                f'the projector (model.neck) takes {first.in_features} channels, but '
                f'{type(self.backbone).__name__} (model.backbone) puts out {features.size(1)}; set '
                f'model.neck.in_channels={features.size(1)}'
            )
        # as a map of one position, so that a neck that pools works as well
        (projected,) = self.neck((features[..., None, None],))
        labels = torch.cat([sample.gt_label for sample in data_samples])
        loss, skipped = self.loss_module(projected, labels.to(projected.device).repeat(len(views)))
        return dict(loss=loss, skipped_anchors=skipped.float())

    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Give each sample its encoder features (C, ) as ``feature``."""
        for sample, feature in zip(data_samples, self.extract_feat(inputs)):
            sample.set_field(feature, 'feature')
        return data_samples
