"""The loss against a loop, in chunks, and in two processes."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmtlalign.errors import UserError
from mmtlalign.models import SupervisedContrastiveLoss
from tests.two_processes import run_two_processes

LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 3, 0])  # 2 and 3 are alone


def loop(features, labels, temperature):
    """Loss and number of anchors without a positive, one by one."""
    rows = features.double() / features.double().norm(dim=1, keepdim=True)
    losses = []
    for i, label in enumerate(labels):
        others = [k for k in range(len(rows)) if k != i]
        log_prob = (rows[others] @ rows[i] / temperature).log_softmax(0)
        if (labels[others] == label).any():
            losses.append(-log_prob[labels[others] == label].mean().item())
    return sum(losses) / len(losses), len(rows) - len(losses)


@pytest.mark.parametrize('temperature', [0.1, 0.5])
def test_equals_a_loop(temperature):
    features = torch.randn(8, 5)
    loss, skipped = SupervisedContrastiveLoss(temperature)(features, LABELS)
    expected, alone = loop(features, LABELS, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert skipped == alone == 2
    scaled, _ = SupervisedContrastiveLoss(temperature, base_temperature=0.07)(features, LABELS)
    assert scaled / loss == pytest.approx(temperature / 0.07)


def test_gradient_is_that_of_differences():
    """Central differences of the loop, whose arithmetic is in double."""
    features = torch.randn(8, 3, dtype=torch.double)
    grad = step(features, LABELS, temperature=0.2)[2]
    for i, j in ((0, 0), (2, 1), (5, 2)):  # 2 is a negative for others only
        moved = torch.zeros_like(features)
        moved[i, j] = 1e-5
        up, down = (loop(features + sign * moved, LABELS, 0.2)[0] for sign in (1, -1))
        assert grad[i, j].item() == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-6)


def step(features, labels, **kwargs):
    features = features.clone().requires_grad_()
    loss, skipped = SupervisedContrastiveLoss(**kwargs)(features, labels)
    loss.backward()
    return loss.detach(), skipped, features.grad


@pytest.mark.parametrize('chunk_size', [1, 3, 100])
def test_chunks_change_nothing(chunk_size):
    features = torch.randn(8, 5)
    whole = step(features, LABELS)
    torch.testing.assert_close(step(features, LABELS, chunk_size=chunk_size), whole)


def test_half_precision_computes_in_single():
    features = torch.randn(8, 5).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        loss, _ = SupervisedContrastiveLoss()(features, LABELS)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(loop(features.float(), LABELS, 0.1)[0], rel=1e-5)


def test_mistakes():
    with pytest.raises(UserError, match='no two of the 4 features .* num_views=2'):
        SupervisedContrastiveLoss()(torch.randn(4, 3), torch.arange(4))
    for name, value in dict(temperature=0.0, base_temperature=-1.0, chunk_size=0).items():
        with pytest.raises(UserError, match=rf'{name}={value}\) is impossible'):
            SupervisedContrastiveLoss(**{name: value})


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
            criterion = SupervisedContrastiveLoss(chunk_size=chunk_size)
            loss, skipped = criterion(model(inputs()[half]), labels[half])
            loss.backward()
            grads = [parameter.grad for parameter in model.parameters()]
            results[name, chunk_size] = loss.detach(), skipped, grads
    return results


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    ranks = run_two_processes(half_batch, tmp_path)
    assert len(ranks[0]) == 6
    for key in ranks[0]:
        model = encoder()
        loss, skipped = SupervisedContrastiveLoss()(model(inputs()), CASES[key[0]])
        loss.backward()
        expected = [parameter.grad for parameter in model.parameters()]
        torch.testing.assert_close(sum(rank[key][0] for rank in ranks) / 2, loss.detach())
        for rank in ranks:
            assert rank[key][1] == skipped
            torch.testing.assert_close(rank[key][2], expected, rtol=1e-5, atol=1e-7)
