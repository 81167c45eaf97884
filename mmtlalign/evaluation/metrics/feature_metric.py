"""What metrics of encoder features have in common."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmtlalign.errors import UserError

HINT = "add dict(type='mmtlalign.EncoderFeatures') to the config's custom_hooks"


class FeatureMetric(BaseMetric):
    """A metric of encoder features, whatever the model predicts.

    Features are those that samples bring as ``feature`` (C, ), or else those that ``extract`` gives
    of their batch; samples then have them, for the metrics that follow. The hook
    :class:`mmtlalign.engine.EncoderFeatures` supplies ``extract`` and, if ``needs_bank``, the bank.

    Args:
        **kwargs: As in :class:`mmengine.evaluator.BaseMetric`.

    Raises:
        UserError: If there is no such hook.
    """

    needs_bank = False

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        #: Gives features (B, C) of a batch of the dataloader.
        self.extract: Callable[[dict], Tensor] | None = None
        #: Features (N, C) and labels (N, ) of the bank, on the CPU.
        self.bank: tuple[Tensor, Tensor] | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep features (C, ) and labels (1, ) of a batch."""
        if 'feature' not in data_samples[0]:
            if self.extract is None:
                raise UserError(f'{type(self).__name__} finds no features: {HINT}')
            for sample, feature in zip(data_samples, self.extract(data_batch)):
                sample['feature'] = feature
        self.results += [
            (sample['feature'].cpu(), sample['gt_label'].cpu()) for sample in data_samples
        ]

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Measure the features of all processes."""
        if self.needs_bank and self.bank is None:
            raise UserError(f'{type(self).__name__} has no bank of features: {HINT}')
        return self.measure(*stack_features(results))

    @abstractmethod
    def measure(self, features: Tensor, labels: Tensor) -> dict[str, float]:
        """Compute the metrics of features (N, C) and labels (N, )."""


def stack_features(results: list[tuple]) -> tuple[Tensor, Tensor]:
    """Features (N, C), float32, and labels (N, ) of single images."""
    features, labels = zip(*results)
    return torch.stack(features).float(), torch.cat(labels)
