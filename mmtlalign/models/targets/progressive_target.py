"""Labels by attention, as far as it is trusted: MixPro (arXiv 2304.12043)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtlalign.registry import MODELS

from ..batch_augments import mix_scores
from .attention_target import attended_share
from .label_target import LabelTarget


@MODELS.register_module()
class ProgressiveTarget(LabelTarget):
    """Moves from the area to the attention as predictions get better.

    The factor is the cosine of the area's label and of the prediction. As
    published it keeps its gradient: the loss trains through it.

    Args:
        watch (str): Whose attention in the last block, as in
            :class:`AttentionTarget`. Defaults to 'class'.
    """

    def __init__(self, watch: str = 'class') -> None:
        self.trace_cfg = dict(watch=watch)

    def share(self, record, trace, scores, data_samples) -> Tensor:
        own = torch.stack([sample.gt_score for sample in data_samples])
        attended = attended_share(record, trace)
        lam = record.lam.to(attended, non_blocking=True)
        factor = F.cosine_similarity(mix_scores(own, record, lam), scores.float().softmax(1), dim=1)
        return factor * attended + (1 - factor) * lam
