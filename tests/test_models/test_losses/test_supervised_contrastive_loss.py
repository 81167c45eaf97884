"""The loss against a loop, in chunks, and in two processes."""

import math

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmtlalign.errors import UserError
from mmtlalign.models import SupervisedContrastiveLoss
from tests.two_processes import run_two_processes

LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 3, 0])  # 2 and 3 are alone


def loop(features, labels, temperature):
    """Loss and number of anchors without a positive, pair by pair."""
    rows = [[x / math.sqrt(sum(v * v for v in row)) for x in row] for row in features.tolist()]
    losses, skipped = [], 0
    for i, anchor in enumerate(rows):
        exp = {
            k: math.exp(sum(a * b for a, b in zip(anchor, other)) / temperature)
            for k, other in enumerate(rows)
            if k != i
        }
        positives = [k for k in exp if labels[k] == labels[i]]
        if not positives:
            skipped += 1
            continue
        losses.append(
            -sum(math.log(exp[k] / sum(exp.values())) for k in positives) / len(positives)
        )
    return sum(losses) / len(losses), skipped


@pytest.mark.parametrize('temperature', [0.1, 0.5])
def test_equals_a_loop(temperature):
    features = torch.randn(8, 5)
    loss, skipped = SupervisedContrastiveLoss(temperature)(features, LABELS)
    expected, alone = loop(features, LABELS, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert skipped == alone == 2


def test_gradient_is_that_of_differences():
    """Central differences of the loop, whose arithmetic is in double."""
    features = torch.randn(8, 3, dtype=torch.double, requires_grad=True)
    SupervisedContrastiveLoss(0.2)(features, LABELS)[0].backward()
    for i, j in ((0, 0), (2, 1), (5, 2)):  # 2 is a negative for others only
        sides = []
        for step in (1e-5, -1e-5):
            moved = features.detach().clone()
            moved[i, j] += step
            sides.append(loop(moved, LABELS, 0.2)[0])
        assert features.grad[i, j].item() == pytest.approx(
            (sides[0] - sides[1]) / 2e-5, rel=1e-3, abs=1e-6
        )


def test_limits():
    """Perfect classes lose log of the number of positives, at worst all."""
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    features = torch.eye(2)[labels]
    loss, _ = SupervisedContrastiveLoss(temperature=0.01)(features, labels)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-5)
    loss, _ = SupervisedContrastiveLoss()(torch.ones(6, 2), labels)
    assert loss.item() == pytest.approx(math.log(5), abs=1e-5)


@pytest.mark.parametrize('chunk_size', [1, 3, 8, 100])
def test_chunks_change_nothing(chunk_size):
    results = []
    for size in (None, chunk_size):
        features = torch.randn(8, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
        loss, skipped = SupervisedContrastiveLoss(chunk_size=size)(features, LABELS)
        loss.backward()
        results.append((loss.detach(), skipped, features.grad))
    for whole, chunked in zip(*results):
        torch.testing.assert_close(chunked, whole)


def test_base_temperature_is_a_factor():
    features = torch.randn(8, 5)
    plain, _ = SupervisedContrastiveLoss()(features, LABELS)
    scaled, _ = SupervisedContrastiveLoss(base_temperature=0.07)(features, LABELS)
    assert scaled / plain == pytest.approx(0.1 / 0.07)


def test_half_precision_computes_in_single():
    features = torch.randn(8, 5).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        loss, _ = SupervisedContrastiveLoss()(features, LABELS)
    expected, _ = loop(features.float(), LABELS, 0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_batch_without_positives_is_an_error():
    with pytest.raises(UserError, match='no two of the 4 features .* num_views=2'):
        SupervisedContrastiveLoss()(torch.randn(4, 3), torch.arange(4))


@pytest.mark.parametrize(
    'arguments', [dict(temperature=0.0), dict(base_temperature=-1.0), dict(chunk_size=0)]
)
def test_impossible_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(UserError, match=rf'{name}={value}\) is impossible'):
        SupervisedContrastiveLoss(**arguments)


# Two processes -----------------------------------------------------------

# Rank 0 holds the first half. In the second case it skips one of its anchors
# and rank 1 none; in the third, rank 0 has no anchor at all.
CASES = dict(
    pairs=torch.tensor([0, 1, 0, 1, 1, 0, 0, 1]),
    uneven=torch.tensor([0, 1, 2, 0, 1, 1, 1, 0]),
    one_sided=torch.tensor([0, 1, 2, 3, 4, 4, 4, 4]),
)


def inputs():
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(2))


def encoder():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def half_batch(rank):
    results = {}
    for name, labels in CASES.items():
        for chunk_size in (None, 3):
            model = DistributedDataParallel(encoder())
            half = slice(4 * rank, 4 * rank + 4)
            loss, skipped = SupervisedContrastiveLoss(chunk_size=chunk_size)(
                model(inputs()[half]), labels[half]
            )
            loss.backward()
            results[name, chunk_size] = (
                loss.detach(),
                skipped,
                [parameter.grad for parameter in model.parameters()],
            )
    return results


def test_two_processes_equal_one(tmp_path):
    ranks = run_two_processes(half_batch, tmp_path)
    assert len(ranks[0]) == 6
    for key in ranks[0]:
        model = encoder()
        loss, skipped = SupervisedContrastiveLoss()(model(inputs()), CASES[key[0]])
        loss.backward()
        expected = [parameter.grad for parameter in model.parameters()]
        losses = [rank[key][0] for rank in ranks]
        torch.testing.assert_close(sum(losses) / 2, loss.detach())
        for rank in ranks:
            assert rank[key][1] == skipped
            torch.testing.assert_close(rank[key][2], expected, rtol=1e-5, atol=1e-7)
