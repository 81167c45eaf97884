"""Accuracy of the nearest neighbours in a bank of labelled features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtlalign.errors import UserError
from mmtlalign.registry import METRICS

from .feature_metric import FeatureMetric


@METRICS.register_module()
class KNNAccuracy(FeatureMetric):
    """Weighted k-nearest-neighbour classification (arXiv 1805.01978).

    The ``k`` features of the bank with the largest cosine similarity ``c`` to
    a tested one vote for their labels with weight ``exp(c / temperature)``.

    Args:
        k (int): Defaults to 20.
        temperature (float): Defaults to 0.07.
        **kwargs: As in :class:`FeatureMetric`.

    Raises:
        UserError: If an argument is not above 0, or the bank has fewer than ``k`` images.
    """

    default_prefix = 'knn'
    needs_bank = True
    chunk_size = 1024  # tested images at a time; bounds memory only

    def __init__(self, k: int = 20, temperature: float = 0.07, **kwargs) -> None:
        super().__init__(**kwargs)
        if k < 1 or temperature <= 0:
            raise UserError(
                f'KNNAccuracy(k={k}, temperature={temperature}) is impossible: both must be above 0'
            )
        self.k = k
        self.temperature = temperature

    def measure(self, features: Tensor, labels: Tensor) -> dict[str, float]:
        """``top1``, in percent."""
        bank, bank_labels = self.bank
        if len(bank) < self.k:
            raise UserError(
                f'KNNAccuracy(k={self.k}) needs as many images in the bank, '
                f'which has {len(bank)}; lower k'
            )
        bank = F.normalize(bank, dim=1)
        chunks = F.normalize(features, dim=1).split(self.chunk_size)
        found = torch.cat([self._classify(chunk, bank, bank_labels) for chunk in chunks])
        return dict(top1=100 * (found == labels).sum().item() / len(labels))

    def _classify(self, features: Tensor, bank: Tensor, bank_labels: Tensor) -> Tensor:
        """Labels (N, ) of normalised features (N, C)."""
        cosine, neighbours = (features @ bank.T).topk(self.k)
        votes = cosine.new_zeros(len(features), int(bank_labels.max()) + 1)
        # The largest cosine is taken off: exp(1 / temperature) may overflow.
        weight = ((cosine - cosine[:, :1]) / self.temperature).exp()
        votes.scatter_add_(1, bank_labels[neighbours], weight)
        return votes.argmax(1)
