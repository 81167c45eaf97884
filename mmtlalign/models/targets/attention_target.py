"""Labels by attention: TransMix (arXiv 2111.09833)."""

import torch.nn.functional as F
from torch import Tensor

from mmtlalign.alignment import LabelTrace
from mmtlalign.registry import MODELS

from ..batch_augments import MixRecord
from .label_target import LabelTarget


@MODELS.register_module()
class AttentionTarget(LabelTarget):
    """The mean of the area and of the attention that own patches get.

    Args:
        ratio (float): Weight of the area; the published code has 0.5. Defaults to 0.5.
        watch (str): Whose attention in the last block: 'class', the class
            token's, as published, or 'patches', the mean over all patches,
            for backbones without a class token. Defaults to 'class'.

    Raises:
        ValueError: If ``ratio`` is not in [0, 1].
    """

    def __init__(self, ratio: float = 0.5, watch: str = 'class') -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(
                f'ratio={ratio} of the area must be from 0 (all by attention) to 1 (all by area).'
            )
        self.ratio = ratio
        self.trace_cfg = dict(watch=watch)

    def share(self, record, trace, scores, data_samples) -> Tensor:
        attended = attended_share(record, trace)
        lam = record.lam.to(attended, non_blocking=True)
        return self.ratio * lam + (1 - self.ratio) * attended


def attended_share(record: MixRecord, trace: LabelTrace) -> Tensor:
    """The part of the attention that goes to own patches, (B,), float32, without gradient.

    Shares are averaged where the last block has fewer tokens than there are patches.
    """
    attention = trace.attention.detach().float()
    own = F.adaptive_avg_pool2d(record.token_share[:, None], trace.grid)
    own = own.flatten(1).to(attention, non_blocking=True)
    return (own * attention).sum(1) / attention.sum(1)
