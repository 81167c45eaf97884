"""Heads that train every token: what they have in common, and that for aligned labels."""

from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord
from .tlalign_head import TLAlignVisionTransformerClsHead


class TokenHead(TLAlignVisionTransformerClsHead):
    """A classifier of the image and one of every patch token.

    The image is classified by the class token, of backbones with ``out_type='raw'``: (B, 1 + N, C),
    class token first; or by the mean over a map (B, C, rows, cols). The loss is that of the image
    plus ``dense_weight`` times the mean over patch tokens, both with the same loss module.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of a token.
        dense_weight (float): Weight of the patch tokens' loss; with 0 they
            are not trained. Defaults to 1.
        init_cfg (dict, optional): Defaults to a truncated normal distribution of standard
            deviation 0.02.
        **kwargs: Other arguments of the host's ``VisionTransformerClsHead``.

    Raises:
        ValueError: If ``dense_weight`` is negative; in training, if the features are no tokens, or
            batches come without a record.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        dense_weight: float = 1.0,
        init_cfg: dict | None = dict(type='TruncNormal', layer='Linear', std=0.02),
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, init_cfg=init_cfg, **kwargs)
        if dense_weight < 0:
            raise ValueError(
                f'dense_weight={dense_weight} must not be negative; 0 leaves the patch tokens out.'
            )
        self.dense_weight = dense_weight
        self.aux_head = nn.Linear(in_channels, num_classes)
        # DDP waits for the gradient of everything that wants one
        self.aux_head.requires_grad_(dense_weight > 0)

    def split(self, feats: tuple[Tensor]) -> tuple[Tensor, Tensor]:
        """What stands for the image (B, C), and the patch tokens (B, N, C)."""
        last = feats[-1]
        if last.ndim == 3:
            return last[:, 0], last[:, 1:]
        if last.ndim == 4:
            tokens = last.flatten(2).transpose(1, 2)
            return tokens.mean(dim=1), tokens
        raise ValueError(
            f'{type(self).__name__} reads all tokens (batch, tokens, channels) or a map (batch, '
            f'channels, rows, cols), but got {tuple(last.shape)}; set out_type of the backbone '
            "to 'raw', or leave out the neck."
        )

    def pre_logits(self, feats: tuple[Tensor]) -> Tensor:
        """What stands for the image (B, C) of the last output."""
        return super().pre_logits((self.split(feats)[0],))

    def class_score(self, feats: tuple[Tensor]) -> Tensor:
        """Scores of the image, (B, num_classes)."""
        return super().forward(feats)

    def loss(
        self,
        feats: tuple[Tensor],
        data_samples: list[DataSample],
        mix: MixRecord | None = None,
        token_share: Tensor | None = None,
        **kwargs,
    ) -> dict:
        """``loss_cls`` and, unless its weight is 0, ``loss_dense``.

        Args:
            feats (tuple[Tensor]): The last one holds the tokens.
            data_samples (list[DataSample]): With each image's own label.
            mix (MixRecord, optional): What was mixed; must be given.
            token_share (Tensor, optional): (B, rows, cols), if the head ``reads_token_share``.
            **kwargs: ``share`` of the aligned heads, for the image.
        """
        if mix is None:
            raise ValueError(
                f'{type(self).__name__} is trained by the record of a mix; give `train_cfg` with '
                'the mixing (`probs=[0.]` mixes nothing).'
            )
        found = self._get_loss(self.class_score(feats), data_samples, mix, **kwargs)
        losses = dict(loss_cls=found['loss'])
        if self.dense_weight > 0:
            dense = self.dense_loss(self.split(feats)[1], data_samples, mix, token_share)
            losses['loss_dense'] = self.dense_weight * dense
        return losses

    def dense_loss(
        self, tokens: Tensor, data_samples: list[DataSample], mix: MixRecord, token_share
    ) -> Tensor:
        """Mean loss of patch tokens (B, N, C)."""
        raise NotImplementedError

    def token_loss(self, tokens: Tensor, target: Tensor) -> Tensor:
        """Mean loss of patch tokens (B, N, C) against scores (B, N, K)."""
        score = self.aux_head(tokens).flatten(0, 1)
        return self.loss_module(score, target.flatten(0, 1), avg_factor=len(score))


def mix_token_scores(own: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """``share * own + (1 - share) * partner`` of every token: scores (B, N or 1, K) and shares
    (B, rows, cols) of N tokens."""
    share = share.flatten(1)[..., None].to(own, non_blocking=True)
    return share * own + (1 - share) * partner


@MODELS.register_module()
class AlignedTokenHead(TokenHead):
    """Aligned labels for all tokens, without an annotator.

    Every patch token is trained on ``share * own + (1 - share) * partner`` with the share that
    arrives at it, which TL-Align (arXiv 2210.06455) computes and does not use; the loss beside that
    of the image is that of Token Labeling (arXiv 2104.10858, section 3.1). Predictions read the
    class token, or the mean of the map, alone.

    The model needs a target that weighs tokens: :class:`AlignedTokenTarget`, or, as the baseline,
    :class:`AreaTarget`.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of a token.
        dense_weight (float): Weight of the patch tokens' loss. Defaults to 0.5, as in the paper on
            Token Labeling.
        **kwargs: Other arguments of :class:`TokenHead`.

    Raises:
        ValueError: As :class:`TokenHead`; if the backbone gives another number of tokens than there
            are shares.
    """

    reads_token_share = True

    def __init__(
        self, num_classes: int, in_channels: int, dense_weight: float = 0.5, **kwargs
    ) -> None:
        super().__init__(num_classes, in_channels, dense_weight, **kwargs)

    def dense_loss(self, tokens, data_samples, mix, token_share) -> Tensor:
        rows, cols = token_share.shape[1:]
        if tokens.size(1) != rows * cols:
            raise ValueError(
                f'The head is given {tokens.size(1)} patch tokens, and the shares are for '
                f"{rows}x{cols}; it reads backbones with one class token and out_type='raw', or "
                'with maps, and no neck. AreaTarget fits backbones that merge no patches.'
            )
        own = self.own_scores(data_samples).float()[:, None]
        partner = own[mix.partner.to(own.device, non_blocking=True)]
        return self.token_loss(tokens, mix_token_scores(own, partner, token_share))
