"""How evenly features use the directions of their space."""

import numpy as np
from scipy.special import logsumexp
from sklearn.preprocessing import normalize
from torch import Tensor

from mmtlalign.errors import UserError
from mmtlalign.registry import METRICS

from .feature_metric import FeatureMetric


@METRICS.register_module()
class Isotropy(FeatureMetric):
    """Three measures of the isotropy of encoder features, in float64.

    ``iso_score`` is the one to quote. The partition score depends on the
    scale of the features, and with features of length one it hardly notices
    dimensions that are not used; the mean cosine does not notice them at all.

    Args:
        normalize (bool): Measure L2-normalised features. False gives the variant of papers that
            measure features as they are. Defaults to True.
        **kwargs: As in :class:`FeatureMetric`.

    Raises:
        UserError: If there are fewer than two images or channels.
    """

    default_prefix = 'isotropy'

    def __init__(self, normalize: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.normalize = normalize

    def measure(self, features: Tensor, labels: Tensor) -> dict[str, float]:
        """``mean_cosine``, ``partition_score`` and ``iso_score``."""
        cloud = features.double().numpy()
        if min(cloud.shape) < 2:
            raise UserError(
                f'Isotropy needs two images and two channels at least, not '
                f'{cloud.shape[0]} and {cloud.shape[1]}'
            )
        cosine = mean_cosine(cloud)
        if self.normalize:
            cloud = normalize(cloud)
        return dict(
            mean_cosine=cosine, partition_score=partition_score(cloud), iso_score=iso_score(cloud)
        )


def mean_cosine(cloud: np.ndarray) -> float:
    r"""Mean cosine similarity of two different rows of (N, C).

    The sum over all pairs of normalised rows is the squared length of their
    sum :math:`s`, so the mean is :math:`(|s|^2 - N) / (N (N - 1))`, in linear
    time. 0 for an isotropic cloud, 1 if all rows point in one direction.
    """
    n = len(cloud)
    total = normalize(cloud).sum(0)
    return float((total @ total - n) / (n * (n - 1)))


def partition_score(cloud: np.ndarray) -> float:
    r"""Smallest over largest partition function, of rows (N, C).

    .. math:: I = \frac{\min_c Z(c)}{\max_c Z(c)}, \quad
        Z(c) = \sum_i \exp(c \cdot x_i)

    over the eigenvectors :math:`c` of :math:`X^T X` (Mu and Viswanath, arXiv
    1702.01417, section 3). The sign of an eigenvector is arbitrary but moves
    :math:`Z`: here both are taken. From 0 to 1, which is isotropic.
    """
    _, directions = np.linalg.eigh(cloud.T @ cloud)
    projections = cloud @ directions
    log_z = np.concatenate([logsumexp(projections, axis=0), logsumexp(-projections, axis=0)])
    return float(np.exp(log_z.min() - log_z.max()))


def iso_score(cloud: np.ndarray) -> float:
    r"""IsoScore (arXiv 2108.07344, algorithm 1) of rows (N, C).

    From the variances :math:`v` along the principal components, with
    :math:`\hat v = \sqrt C v / |v|`,

    .. math::
        \delta = \frac{|\hat v - 1|}{\sqrt{2 (C - \sqrt C)}}, \quad
        \phi = \frac{(C - \delta^2 (C - \sqrt C))^2}{C^2}, \quad
        I = \frac{C \phi - 1}{C - 1}

    :math:`\phi` is the part of the dimensions that is used: a cloud that
    spreads evenly over k of them has :math:`\phi = k / C`. From 0, one
    dimension (or none: all rows are equal), to 1, all alike.
    """
    c = cloud.shape[1]
    variance = np.linalg.eigvalsh(np.cov(cloud, rowvar=False)).clip(min=0)
    if variance.max() <= np.finfo(cloud.dtype).eps * np.square(cloud).mean():
        return 0.0  # all rows are equal, but for rounding
    variance *= np.sqrt(c) / np.linalg.norm(variance)
    defect = np.sum((variance - 1) ** 2) / (2 * (c - np.sqrt(c)))
    phi = ((c - defect * (c - np.sqrt(c))) / c) ** 2
    return float((c * phi - 1) / (c - 1))
