"""A head that trains every token on the label it arrives with."""

from torch import Tensor

from mmtlalign.registry import MODELS

from .token_head import TokenHead, mix_token_scores


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
