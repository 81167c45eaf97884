"""What share of its own label a sample is trained on, in loops written out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from mmtlalign.models import (
    AlignedTarget,
    AreaTarget,
    AttentionTarget,
    MixRecord,
    ProgressiveTarget,
    TokenMixTarget,
)

BATCH, GRID, CLASSES = 3, (4, 6), 5


def record(seed=0):
    """Masks of single patches, one per sample; sample 2 is left alone."""
    generator = torch.Generator().manual_seed(seed)
    share = (torch.rand(BATCH, *GRID, generator=generator) > 0.4).float()
    share[2] = 1
    return MixRecord(torch.tensor([1, 2, 0]), share, share.mean((1, 2)))


def trace(grid=GRID):
    generator = torch.Generator().manual_seed(1)
    return SimpleNamespace(
        attention=torch.rand(BATCH, grid[0] * grid[1], generator=generator),
        grid=grid,
        output_share=torch.tensor([0.2, 0.5, 1.0]),
    )


def samples(maps=False):
    rng = np.random.default_rng(0)
    out = [DataSample().set_gt_score(torch.eye(CLASSES)[i]) for i in range(BATCH)]
    for sample in out if maps else []:
        sample.gt_token_score = torch.from_numpy(
            rng.dirichlet(np.ones(CLASSES), GRID[0] * GRID[1])
        ).float()
    return out


def attended(mix, trace, i):
    """Sample i's attention on own patches over that on all."""
    rows, cols = trace.grid
    v, u = GRID[0] // rows, GRID[1] // cols
    own = total = 0
    for row in range(rows):
        for col in range(cols):
            weight = trace.attention[i, row * cols + col].item()
            cell = mix.token_share[i, v * row : v * row + v, u * col : u * col + u]
            own += weight * cell.double().mean().item()
            total += weight
    return own / total


def test_area():
    mix = record()
    target = AreaTarget()
    assert target.trace_cfg is None
    assert torch.equal(target.share(mix, None, None, None), mix.lam)
    assert target.logged_share(None, mix.lam) is None
    monitored = AreaTarget(monitor=True)
    assert monitored.trace_cfg is not None
    assert torch.equal(monitored.share(mix, trace(), None, None), mix.lam)
    assert torch.equal(monitored.logged_share(trace(), mix.lam), trace().output_share)


def test_aligned():
    target = AlignedTarget()
    share = target.share(record(), trace(), None, None)
    assert torch.equal(share, trace().output_share)
    assert torch.equal(target.logged_share(trace(), share), share)
    assert AlignedTarget('contribution').trace_cfg == dict(propagation='contribution')


@pytest.mark.parametrize('grid', [GRID, (2, 3), (4, 2)])
@pytest.mark.parametrize('ratio', [0.0, 0.5, 0.8, 1.0])
def test_attention(grid, ratio):
    mix, found = record(), trace(grid)
    target = AttentionTarget(ratio=ratio)
    assert target.trace_cfg == dict(watch='class')
    assert AttentionTarget(watch='patches').trace_cfg == dict(watch='patches')
    share = target.share(mix, found, None, None)
    for i in range(BATCH):
        expected = ratio * mix.lam[i].item() + (1 - ratio) * attended(mix, found, i)
        assert share[i].item() == pytest.approx(expected, abs=1e-6)
    assert share[2].item() == pytest.approx(1)
    assert share.dtype == torch.float32 and not share.requires_grad


def test_attention_that_has_gradient_or_half_precision():
    mix, found = record(), trace()
    expected = AttentionTarget().share(mix, found, None, None)
    found.attention = found.attention.bfloat16().requires_grad_()
    share = AttentionTarget().share(mix, found, None, None)
    assert not share.requires_grad and share.dtype == torch.float32
    torch.testing.assert_close(share, expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize('ratio', [-0.1, 1.1, float('nan')])
def test_ratio_is_a_part(ratio):
    with pytest.raises(ValueError, match=f'ratio={ratio}'):
        AttentionTarget(ratio=ratio)


def progressive(mix, found, scores, i):
    """By hand, with gradient through the factor alone."""
    area = torch.zeros(CLASSES)
    area[i] += mix.lam[i]
    area[mix.partner[i]] += 1 - mix.lam[i]
    prediction = scores[i].exp() / scores[i].exp().sum()
    factor = (area * prediction).sum() / ((area**2).sum().sqrt() * (prediction**2).sum().sqrt())
    return factor * attended(mix, found, i) + (1 - factor) * mix.lam[i]


def test_progressive_and_the_gradient_of_its_factor():
    mix, found = record(), trace()
    scores = torch.randn(
        BATCH, CLASSES, requires_grad=True, generator=torch.Generator().manual_seed(2)
    )
    share = ProgressiveTarget().share(mix, found, scores, samples())
    expected = torch.stack([progressive(mix, found, scores, i) for i in range(BATCH)])
    torch.testing.assert_close(share, expected)
    (got,) = torch.autograd.grad(share.sum(), scores)
    (wanted,) = torch.autograd.grad(expected.sum(), scores)
    torch.testing.assert_close(got, wanted)
    assert got[:2].abs().min() > 0
    logged = ProgressiveTarget().logged_share(found, share)
    assert torch.equal(logged, share) and not logged.requires_grad


def test_token_mix():
    mix, labelled = record(), samples(maps=True)
    target = TokenMixTarget()
    assert target.trace_cfg is None
    weights = target.share(mix, None, None, labelled)
    maps = []
    for i, sample in enumerate(labelled):
        own_class = sample.gt_token_score[:, i].double().numpy()
        maps.append(own_class / own_class.sum())
    for i in range(BATCH):
        own = visible = 0
        j = mix.partner[i].item()
        for n in range(GRID[0] * GRID[1]):
            part = mix.token_share[i].flatten()[n].item()
            own += part * maps[i][n]
            visible += (1 - part) * maps[j][n]
        assert weights[i].tolist() == pytest.approx([own, visible], abs=1e-6)
    assert (weights[:2].sum(1) - 1).abs().min() > 1e-3, 'need not sum to one'
    assert weights[2].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert torch.equal(target.logged_share(None, weights), weights[:, 0])


def test_token_mix_with_a_map_of_zeros_goes_by_area():
    mix, labelled = record(), samples(maps=True)
    for sample in labelled:
        sample.gt_token_score = torch.zeros_like(sample.gt_token_score)
    weights = TokenMixTarget().share(mix, None, None, labelled)
    torch.testing.assert_close(weights, torch.stack((mix.lam, 1 - mix.lam), 1))


def test_token_mix_without_maps_is_refused():
    with pytest.raises(ValueError, match='LoadTokenLabels.*TokenLabelDataPreprocessor'):
        TokenMixTarget().share(record(), None, None, samples())
