"""Accuracy of a linear classifier on frozen features."""

from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mmtlalign.errors import UserError
from mmtlalign.registry import METRICS

from .feature_metric import FeatureMetric


@METRICS.register_module()
class LinearProbe(FeatureMetric):
    """Logistic regression, fitted on the bank, scored on the tested images.

    Features are standardised by the bank's mean and standard deviation. The inverse regularisation
    strength C is the one that scores best on a fifth of the bank (equal in class frequencies, the
    same in every run) after a fit on the rest; the smaller one if two are equal. Then the whole
    bank is fitted. No tested image takes part in any of it.

    Args:
        grid (Sequence[float]): Values of C to choose from. Defaults to powers
            of ten from 1e-4 to 1e2.
        max_iter (int): Bound on the iterations of a fit. Defaults to 1000.
        **kwargs: As in :class:`FeatureMetric`.

    Raises:
        UserError: If ``grid`` is empty or holds a number that is not above 0,
            or a class of the bank has a single image.
    """

    default_prefix = 'linear_probe'
    needs_bank = True

    def __init__(
        self,
        grid: Sequence[float] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0),
        max_iter: int = 1000,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if not grid or min(grid) <= 0:
            raise UserError(f'LinearProbe(grid={grid}) is impossible: it must hold numbers above 0')
        self.grid = sorted(grid)
        self.max_iter = max_iter

    def measure(self, features: Tensor, labels: Tensor) -> dict[str, float]:
        """``top1``, in percent, and the chosen ``C``."""
        bank, bank_labels = (array.numpy() for array in self.bank)
        print_log(
            f'Fitting a linear probe to {len(bank)} images, with {len(self.grid)} values of C',
            logger='current',
        )
        best = self._choose(bank, bank_labels)
        probe = self._probe(best).fit(bank, bank_labels)
        top1 = 100 * probe.score(features.numpy(), labels.numpy())
        return dict(top1=top1, C=best)

    def _choose(self, bank: np.ndarray, labels: np.ndarray) -> float:
        """The C that scores best on a part of the bank."""
        classes, counts = np.unique(labels, return_counts=True)
        if counts.min() < 2:
            raise UserError(
                f'LinearProbe cannot hold out a part of class {classes[counts.argmin()]}, which '
                'has 1 image in the bank; give a larger bank'
            )
        held_out = max(len(bank) // 5, len(classes))
        fit, score, fit_labels, score_labels = train_test_split(
            bank, labels, test_size=held_out, random_state=0, stratify=labels
        )
        scores = [self._probe(c).fit(fit, fit_labels).score(score, score_labels) for c in self.grid]
        return self.grid[int(np.argmax(scores))]

    def _probe(self, c: float) -> Pipeline:
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=self.max_iter))
