"""MixToken (Token Labeling, arXiv 2104.10858, section 3.2)."""

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .cutmix import TokenCutMix
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class MixToken(TokenCutMix):
    """CutMix of the outputs of the patch embedding instead of pixels.

    Where the field of view of a patch embedding crosses patches, as in the stem of LV-ViT, a token
    is then of one image alone. Only partner and box are drawn here; the classifier swaps the tokens
    inside the backbone.

    Args: Those of :class:`TokenCutMix`.
    """

    def draw(self, inputs: Tensor) -> MixRecord:
        record = super().draw(inputs)
        record.in_backbone = True
        return record

    def apply(self, inputs: Tensor, record: MixRecord) -> Tensor:
        """Refuse, with a TypeError: there are no tokens here."""
        raise TypeError(
            'MixToken mixes tokens inside the backbone, not images; use it in '
            'mmtlalign.TokenLabelClassifier, or mmtlalign.TokenCutMix here.'
        )


def swap_tokens(tokens: Tensor, token_share: Tensor, partner: Tensor) -> Tensor:
    """Put the partner's token wherever a token is not its own image's.

    Args:
        tokens (Tensor): (B, N, C), patch tokens only; left as they are.
        token_share (Tensor): (B, rows, cols), 0 or 1, equal in all samples.
        partner (Tensor): (B,), int64: where the other tokens come from.
    """
    own = token_share.flatten(1)[..., None] > 0.5
    own, partner = (x.to(tokens.device, non_blocking=True) for x in (own, partner))
    return torch.where(own, tokens, tokens[partner])


def put_back_tokens(tokens: Tensor, token_share: Tensor, partner: Tensor) -> Tensor:
    """Undo :func:`swap_tokens`, with the same arguments."""
    return swap_tokens(tokens, token_share, partner.argsort())
