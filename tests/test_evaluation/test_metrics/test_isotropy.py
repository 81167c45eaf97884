"""Isotropy of clouds whose answers are known."""

import math

import numpy as np
import pytest
import torch

from mmtlalign.errors import UserError
from mmtlalign.evaluation import Isotropy, iso_score, mean_cosine, partition_score


def cross(dimensions, channels):
    """Both ends of the first few axes: even in just those dimensions."""
    axes = np.eye(channels)[:dimensions]
    return np.concatenate([axes, -axes])


@pytest.mark.parametrize('used', [1, 2, 3, 8])
def test_iso_score_counts_dimensions(used):
    """(k - 1) / (C - 1) if k of C dimensions are used, and all alike."""
    assert iso_score(cross(used, 8)) == pytest.approx((used - 1) / 7, abs=1e-12)


def test_iso_score_of_two_variances():
    """Formula of the docstring by hand, for variances 3 and 1 of two."""
    cloud = cross(2, 2) * np.sqrt([[3], [1], [3], [1]])
    v = [math.sqrt(2) * part / math.hypot(3, 1) for part in (3, 1)]
    delta = math.hypot(v[0] - 1, v[1] - 1) / math.sqrt(2 * (2 - math.sqrt(2)))
    phi = (2 - delta**2 * (2 - math.sqrt(2))) ** 2 / 4
    assert iso_score(cloud) == pytest.approx(2 * phi - 1) == pytest.approx(0.6)


def test_iso_score_ignores_place_scale_and_rotation():
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(50, 4)) * [1, 2, 3, 4]
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    assert iso_score(7 * cloud @ rotation + 5) == pytest.approx(iso_score(cloud))


def test_equal_rows_use_no_dimension():
    assert iso_score(np.zeros((7, 5))) == iso_score(np.full((7, 5), 0.1)) == 0
    assert mean_cosine(np.full((7, 5), 0.1)) == pytest.approx(1)


def test_mean_cosine_is_that_of_all_pairs():
    cloud = np.random.default_rng(0).normal(size=(20, 3)) + 0.5
    pairs = [
        a @ b / math.sqrt(a @ a * (b @ b))
        for i, a in enumerate(cloud)
        for j, b in enumerate(cloud)
        if i != j
    ]
    assert mean_cosine(cloud) == pytest.approx(sum(pairs) / len(pairs))


def test_partition_score_by_both_signs():
    """One axis holds 2 and -1; the other nothing: Z is known for each."""
    cloud = np.array([[2.0, 0.0], [-1.0, 0.0]])
    z = [math.exp(2) + math.exp(-1), math.exp(-2) + math.exp(1), 2]
    assert partition_score(cloud) == pytest.approx(min(z) / max(z))
    assert partition_score(-cloud) == pytest.approx(min(z) / max(z))
    assert partition_score(cross(4, 4)) == pytest.approx(1)
    # exp(-3999) and less, without an overflow
    assert partition_score(np.array([[2000.0, 0.0], [1999.0, 0.0]])) == 0


def test_normalize():
    cloud = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    labels = torch.zeros(4)
    at_length_one = Isotropy().measure(cloud, labels)
    as_it_is = Isotropy(normalize=False).measure(cloud, labels)
    assert at_length_one['iso_score'] == pytest.approx(1)
    assert at_length_one['partition_score'] == pytest.approx(1)
    assert as_it_is['iso_score'] == pytest.approx(iso_score(cloud.numpy()))
    assert as_it_is['iso_score'] < 0.9
    assert at_length_one['mean_cosine'] == as_it_is['mean_cosine'] == (pytest.approx(-1 / 3))


def test_too_small_a_cloud():
    for shape in (1, 5), (5, 1):
        with pytest.raises(UserError, match=f'not {shape[0]} and {shape[1]}'):
            Isotropy().measure(torch.ones(shape), torch.ones(shape[0]))
