"""Accuracy of the nearest neighbours in a bank of labelled features."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
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
        bank, bank_labels = (part.numpy() for part in self.bank)
        if len(bank) < self.k:
            raise UserError(
                f'KNNAccuracy(k={self.k}) needs as many images in the bank, '
                f'which has {len(bank)}; lower k'
            )
        knn = KNeighborsClassifier(self.k, weights=self._votes, metric='cosine')
        found = knn.fit(bank, bank_labels).predict(features.numpy())
        return dict(top1=100 * (found == labels.numpy()).sum().item() / len(labels))

    def _votes(self, distance: np.ndarray) -> np.ndarray:
        """Weights (N, k) of neighbours at cosine distances, less those of the nearest: exp(1 /
        temperature) may overflow."""
        return np.exp((distance.min(1, keepdims=True) - distance) / self.temperature)
