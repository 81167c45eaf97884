"""Head and loss of Token Labeling (arXiv 2104.10858, section 3.1)."""

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord, put_back_tokens
from .token_head import TokenHead, mix_token_scores

CLS_TARGETS = ('machine', 'ground_truth', 'blend')


@MODELS.register_module()
class TokenLabelHead(TokenHead):
    """A head whose patch tokens are trained on an annotator's scores.

    A prediction adds ``max_weight`` times the largest score of any token, class by class, to the
    scores of the class token. Without a class token the mean over the map stands for it.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of a token.
        dense_weight (float): Weight of the patch tokens' loss. Defaults to 1, as in the published
            code; the paper says 0.5. With 0 they are neither trained nor used, and samples need no
            token labels.
        cls_target (str): What the class token is trained on, before two images are mixed:

            - 'machine': the annotator's scores over the crop;
            - 'ground_truth': the data set's label;
            - 'blend': half of each where both name the same class, else nine tenths of the
              machine's, as in the published code.

            Defaults to 'machine'.
        max_weight (float): Of the patch tokens in predictions. Defaults to 0.5.
        **kwargs: Other arguments of :class:`TokenHead`.

    Raises:
        ValueError: If an argument is out of its range; in training, if samples lack token labels or
            have them on another grid.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        dense_weight: float = 1.0,
        cls_target: str = 'machine',
        max_weight: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, dense_weight, **kwargs)
        if cls_target not in CLS_TARGETS:
            raise ValueError(f'cls_target={cls_target!r} must be one of {CLS_TARGETS}.')
        self.cls_target = cls_target
        self.max_weight = max_weight

    def forward(self, feats: tuple[Tensor]) -> Tensor:
        """Scores for predictions, (B, num_classes)."""
        cls_score = self.class_score(feats)
        if self.dense_weight == 0:
            return cls_score
        return cls_score + self.max_weight * self.aux_head(self.split(feats)[1]).amax(dim=1)

    def loss(self, feats, data_samples, mix: MixRecord | None = None, **kwargs) -> dict:
        """As in :class:`TokenHead`, with samples as left by :class:`TokenLabelDataPreprocessor`."""
        needed = self.dense_weight > 0 or self.cls_target != 'ground_truth'
        if needed and mix is not None and 'gt_token_score' not in data_samples[0]:
            raise ValueError(
                'Samples have no token labels: put mmtlalign.LoadTokenLabels into the training '
                "pipeline and 'token_labels' into PackInputs' algorithm_keys, or set "
                "dense_weight=0. and cls_target='ground_truth'."
            )
        return super().loss(feats, data_samples, mix, **kwargs)

    def own_scores(self, data_samples: list[DataSample]) -> Tensor:
        """Class target of each image, (B, num_classes)."""
        truth = super().own_scores(data_samples)
        if self.cls_target == 'ground_truth':
            return truth
        machine = torch.stack([sample.machine_score for sample in data_samples])
        if self.cls_target == 'machine':
            return machine
        agree = machine.argmax(dim=1) == truth.argmax(dim=1)
        weight = torch.where(agree, 0.5, 0.9)[:, None]
        return weight * machine + (1 - weight) * truth

    def dense_loss(self, tokens, data_samples, mix, token_share) -> Tensor:
        """Each token against the scores of the image it came from, or, where
        pixels were mixed, against their mix."""
        target = torch.stack([sample.gt_token_score for sample in data_samples])
        if tokens.shape[:2] != target.shape[:2]:
            raise ValueError(
                f'The backbone gives {tokens.size(1)} patch tokens and the token labels are for '
                f"{target.size(1)}; set the mixing method's patch_size to that of the backbone."
            )
        if mix.in_backbone:
            tokens = put_back_tokens(tokens, mix.token_share, mix.partner)
        else:
            target = mix_token_scores(target, target[mix.partner], mix.token_share)
        return self.token_loss(tokens, target)
