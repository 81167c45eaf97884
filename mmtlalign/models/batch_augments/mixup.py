"""Mixup (arXiv 1710.09412), with the record that alignment reads."""

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix, check_alpha
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class Mixup(BatchMix):
    """Blend every image with its partner, one ``lam`` per batch.

    Every token's share is ``lam``; constant shares stay constant, so the
    aligned label equals the area label.

    Args:
        alpha (float): Of Beta(alpha, alpha). Defaults to 0.8.
        **kwargs: ``patch_size`` and ``partner`` of :class:`BatchMix`.
    """

    def __init__(self, alpha: float = 0.8, **kwargs) -> None:
        super().__init__(**kwargs)
        self.alpha = check_alpha(alpha)

    def draw(self, inputs: Tensor) -> MixRecord:
        batch, grid = inputs.size(0), self.grid(inputs)
        lam = torch.full((batch,), self.draw_lam(self.alpha))
        return MixRecord(
            self.draw_partner(batch),
            token_share=lam[:, None, None].expand(batch, *grid),
            lam=lam,
            pixel_share=lam[:, None, None],
        )
