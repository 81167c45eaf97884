"""Labels by a teacher's maps: TokenMix (arXiv 2207.08409)."""

import torch
from torch import Tensor

from mmtlalign.registry import MODELS

from .label_target import LabelTarget


@MODELS.register_module()
class TokenMixTarget(LabelTarget):
    """Each label weighs what is left to see of its image's map.

    A map is what the stored token labels say of the image's own class, patch by patch, and sums to
    one over the image. The two weights need not sum to one, so the method trains with binary cross
    entropy. The maps come from :class:`TokenLabelDataPreprocessor`.

    Raises:
        ValueError: In training, if samples have no token labels.
    """

    def share(self, record, trace, scores, data_samples) -> Tensor:
        if 'gt_token_score' not in data_samples[0]:
            raise ValueError(
                'TokenMixTarget reads maps of token labels, and samples have none: put '
                "mmtlalign.LoadTokenLabels into the training pipeline and 'token_labels' into "
                "PackInputs' algorithm_keys, and set data_preprocessor.type to "
                "'mmtlalign.TokenLabelDataPreprocessor'."
            )
        maps = torch.stack(
            [sample.gt_token_score @ sample.gt_score.float() for sample in data_samples]
        ).clamp(min=1e-12)  # a map of zeros becomes an even one
        maps = maps / maps.sum(dim=1, keepdim=True)
        visible = record.token_share.flatten(1).to(maps, non_blocking=True)
        partner = maps[record.partner.to(maps.device, non_blocking=True)]
        return torch.stack(((visible * maps).sum(1), ((1 - visible) * partner).sum(1)), dim=1)
