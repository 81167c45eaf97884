"""Head and loss of Token Labeling (arXiv 2104.10858, section 3.1)."""
import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord, put_back_tokens
from .tlalign_head import TLAlignVisionTransformerClsHead

CLS_TARGETS = ('machine', 'ground_truth', 'blend')


@MODELS.register_module()
class TokenLabelHead(TLAlignVisionTransformerClsHead):
    """A classifier of the class token and one of every patch token.

    It reads backbones with ``out_type='raw'``: (B, 1 + N, C), class token
    first. The loss is that of the class token plus ``dense_weight`` times the
    mean over patch tokens, both with the same loss module. A prediction adds
    ``max_weight`` times the largest score of any token, class by class, to
    the scores of the class token.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of a token.
        dense_weight (float): Weight of the patch tokens' loss. Defaults to 1,
            as in the published code; the paper says 0.5. With 0 they are
            neither trained nor used, and samples need no token labels.
        cls_target (str): What the class token is trained on, before two
            images are mixed:

            - 'machine': the annotator's scores over the crop;
            - 'ground_truth': the data set's label;
            - 'blend': half of each where both name the same class, else nine
              tenths of the machine's, as in the published code.

            Defaults to 'machine'.
        max_weight (float): Of the patch tokens in predictions. Defaults to
            0.5.
        init_cfg (dict, optional): Defaults to a truncated normal distribution
            of standard deviation 0.02.
        **kwargs: Other arguments of the host's ``VisionTransformerClsHead``.

    Raises:
        ValueError: If an argument is out of its range; in training, if
            samples lack token labels or have them on another grid.
    """

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 dense_weight: float = 1.,
                 cls_target: str = 'machine',
                 max_weight: float = .5,
                 init_cfg: dict | None = dict(
                     type='TruncNormal', layer='Linear', std=.02),
                 **kwargs) -> None:
        super().__init__(
            num_classes, in_channels, init_cfg=init_cfg, **kwargs)
        if cls_target not in CLS_TARGETS:
            raise ValueError(
                f'cls_target={cls_target!r} must be one of {CLS_TARGETS}.')
        if dense_weight < 0:
            raise ValueError(f'dense_weight={dense_weight} must not be '
                             'negative; 0 leaves the patch tokens out.')
        self.dense_weight = dense_weight
        self.cls_target = cls_target
        self.max_weight = max_weight
        self.aux_head = nn.Linear(in_channels, num_classes)
        # DDP waits for the gradient of everything that wants one
        self.aux_head.requires_grad_(dense_weight > 0)

    def pre_logits(self, feats: tuple[Tensor]) -> Tensor:
        """The class token (B, C) of the last output (B, 1 + N, C)."""
        if feats[-1].ndim != 3:
            raise ValueError(
                'TokenLabelHead reads all tokens (batch, tokens, channels), '
                f'but got {tuple(feats[-1].shape)}; set out_type of the '
                "backbone to 'raw'.")
        return super().pre_logits((feats[-1][:, 0], ))

    def forward(self, feats: tuple[Tensor]) -> Tensor:
        """Scores for predictions, (B, num_classes)."""
        cls_score = super().forward(feats)
        if self.dense_weight == 0:
            return cls_score
        token_score = self.aux_head(feats[-1][:, 1:])
        return cls_score + self.max_weight * token_score.amax(dim=1)

    def loss(self,
             feats: tuple[Tensor],
             data_samples: list[DataSample],
             mix: MixRecord | None = None,
             **kwargs) -> dict:
        """Loss of the class token and of the patch tokens.

        Args:
            feats (tuple[Tensor]): The last one is (B, 1 + N, C).
            data_samples (list[DataSample]): As left by
                :class:`TokenLabelDataPreprocessor`.
            mix (MixRecord, optional): What it mixed; must be given.
            **kwargs: ``share`` of the aligned heads, for the class token.

        Returns:
            dict[str, Tensor]: ``loss_cls`` and, unless its weight is 0,
            ``loss_dense``.
        """
        if mix is None:
            raise ValueError(
                'TokenLabelHead trains on what TokenLabelDataPreprocessor '
                'leaves on the samples; give `train_cfg` with the mixing '
                '(`probs=[0.]` mixes nothing).')
        self._require_token_labels(data_samples)
        cls_score = super().forward(feats)
        losses = self._get_loss(cls_score, data_samples, mix, **kwargs)
        losses = dict(loss_cls=losses['loss'])
        if self.dense_weight > 0:
            losses['loss_dense'] = self.dense_weight * self._dense_loss(
                feats[-1][:, 1:], data_samples, mix)
        return losses

    def _require_token_labels(self, data_samples: list[DataSample]) -> None:
        needed = self.dense_weight > 0 or self.cls_target != 'ground_truth'
        if needed and 'gt_token_score' not in data_samples[0]:
            raise ValueError(
                'Samples have no token labels: put mmtlalign.LoadTokenLabels '
                "into the training pipeline and 'token_labels' into "
                "PackInputs' algorithm_keys, or set dense_weight=0. and "
                "cls_target='ground_truth'.")

    def own_scores(self, data_samples: list[DataSample]) -> Tensor:
        """Class target of each image, (B, num_classes)."""
        truth = super().own_scores(data_samples)
        if self.cls_target == 'ground_truth':
            return truth
        machine = torch.stack(
            [sample.machine_score for sample in data_samples])
        if self.cls_target == 'machine':
            return machine
        return _blend(machine, truth)

    def _dense_loss(self, tokens: Tensor, data_samples: list[DataSample],
                    mix: MixRecord) -> Tensor:
        """Mean loss of patch tokens (B, N, C): each against the scores of the
        image it came from, or, where pixels were mixed, against their mix."""
        target = torch.stack(
            [sample.gt_token_score for sample in data_samples])
        if tokens.shape[:2] != target.shape[:2]:
            raise ValueError(
                f'The backbone gives {tokens.size(1)} patch tokens and the '
                f'token labels are for {target.size(1)}; set the mixing '
                "method's patch_size to that of the backbone.")
        if mix.in_backbone:
            tokens = put_back_tokens(tokens, mix.token_share, mix.partner)
        else:
            share = mix.token_share.flatten(1)[..., None].to(target)
            target = share * target + (1 - share) * target[mix.partner]
        score = self.aux_head(tokens).flatten(0, 1)
        return self.loss_module(
            score, target.flatten(0, 1), avg_factor=len(score))


def _blend(machine: Tensor, truth: Tensor) -> Tensor:
    """Mix two scores (B, K); the machine's weighs more where they differ."""
    agree = machine.argmax(dim=1) == truth.argmax(dim=1)
    weight = torch.where(agree, .5, .9)[:, None]
    return weight * machine + (1 - weight) * truth
