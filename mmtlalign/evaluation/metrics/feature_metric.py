"""What metrics of encoder features have in common."""

from abc import abstractmethod
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmtlalign.errors import UserError

HINT = "add dict(type='mmtlalign.EncoderFeatures') to the config's custom_hooks"


class FeatureMetric(BaseMetric):
    """A metric of encoder features, whatever the model predicts.

    The hook :class:`mmtlalign.engine.EncoderFeatures` supplies the features
    of the tested images, and, if ``needs_bank``, those of the bank.

    Args:
        **kwargs: As in :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        UserError: If there is no such hook.
    """

    needs_bank = False

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        #: Features (N, C) and labels (N, ) of the bank, on the CPU.
        self.bank: Optional[Tuple[Tensor, Tensor]] = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep features (C, ) and labels (1, ) of a batch."""
        for sample in data_samples:
            if 'feature' not in sample:
                raise UserError(f'{type(self).__name__} finds no features: {HINT}')
            self.results.append((sample['feature'].cpu(), sample['gt_label'].cpu()))

    def compute_metrics(self, results: List[tuple]) -> Dict[str, float]:
        """Measure the features of all processes."""
        if self.needs_bank and self.bank is None:
            raise UserError(f'{type(self).__name__} has no bank of features: {HINT}')
        return self.measure(*stack(results))

    @abstractmethod
    def measure(self, features: Tensor, labels: Tensor) -> Dict[str, float]:
        """Compute the metrics of features (N, C) and labels (N, )."""


def stack(results: List[tuple]) -> Tuple[Tensor, Tensor]:
    """Features (N, C), float32, and labels (N, ) of single images."""
    features, labels = zip(*results)
    return torch.stack(features).float(), torch.cat(labels)
