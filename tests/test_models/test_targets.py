"""What share of its own label a sample is trained on, in loops written out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from mmtlalign.alignment import LabelTrace
from mmtlalign.models import AlignedTarget, AreaTarget, AttentionTarget, MixRecord, TokenMixTarget

from .test_tlalign import build, data

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


def attended(mix, trace, i, grid=GRID):
    """Sample i's attention on own patches over that on all."""
    rows, cols = trace.grid
    v, u = grid[0] // rows, grid[1] // cols
    own = total = 0
    for row, col in np.ndindex(rows, cols):
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
@pytest.mark.parametrize('ratio', [0.0, 0.8, 1.0])
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


def progressive(mix, found, scores, i, grid=GRID):
    """By hand, with gradient through the factor alone."""
    area = torch.zeros(CLASSES)
    area[i] += mix.lam[i]
    area[mix.partner[i]] += 1 - mix.lam[i]
    prediction = scores[i].exp() / scores[i].exp().sum()
    factor = (area * prediction).sum() / ((area**2).sum().sqrt() * (prediction**2).sum().sqrt())
    return factor * attended(mix, found, i, grid) + (1 - factor) * mix.lam[i]


def test_token_mix():
    mix, labelled = record(), samples(maps=True)
    target = TokenMixTarget()
    assert target.trace_cfg is None
    weights = target.share(mix, None, None, labelled)
    maps = [sample.gt_token_score[:, i].double() for i, sample in enumerate(labelled)]
    maps = [own / own.sum() for own in maps]
    for i, j in enumerate(mix.partner.tolist()):
        part = mix.token_share[i].flatten().double()
        expected = [(part @ maps[i]).item(), ((1 - part) @ maps[j]).item()]
        assert weights[i].tolist() == pytest.approx(expected, abs=1e-6)
    assert (weights[:2].sum(1) - 1).abs().min() > 1e-3, 'need not sum to one'
    assert weights[2].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert torch.equal(target.logged_share(None, weights), weights[:, 0])


def test_token_mix_with_a_map_of_zeros_goes_by_area():
    mix, labelled = record(), samples(maps=True)
    for sample in labelled:
        sample.gt_token_score = torch.zeros_like(sample.gt_token_score)
    weights = TokenMixTarget().share(mix, None, None, labelled)
    torch.testing.assert_close(weights, torch.stack((mix.lam, 1 - mix.lam), 1))


def test_mistakes():
    with pytest.raises(ValueError, match='LoadTokenLabels.*TokenLabelDataPreprocessor'):
        TokenMixTarget().share(record(), None, None, samples())
    for ratio in -0.1, 1.1, float('nan'):
        with pytest.raises(ValueError, match=f'ratio={ratio}'):
            AttentionTarget(ratio=ratio)


@pytest.mark.parametrize(
    'target',
    [
        dict(type='AttentionTarget', ratio=0.3),
        dict(type='AttentionTarget', watch='patches'),
        dict(type='ProgressiveTarget'),
    ],
)
def test_training_by_attention(target):
    """Share, loss and gradient of a step; the factor of progressive labels is trained through."""
    cfg = dict(target, type=f'mmtlalign.{target["type"]}')
    model = build(target=cfg, loss=dict(type='CrossEntropyLoss', use_soft=True)).eval()
    model.data_preprocessor.batch_augments.seed(1)
    batch = model.data_preprocessor(data(), training=True)
    losses, mix = model.loss(**batch), batch['mix']
    losses['loss'].backward()
    weight = model.head.layers.head.weight
    found, weight.grad = weight.grad, None

    found_trace = LabelTrace(model.backbone, watch=target.get('watch', 'class'))
    with found_trace(mix.token_share):
        scores = model(batch['inputs'])
    part = torch.tensor([attended(mix, found_trace, i, (4, 4)) for i in range(4)])
    if target['type'] == 'AttentionTarget':
        ratio = target.get('ratio', 0.5)
        share = ratio * mix.lam + (1 - ratio) * part
    else:
        share = torch.stack([progressive(mix, found_trace, scores, i, (4, 4)) for i in range(4)])
    assert 0 < mix.lam[0] < 1 and (share - mix.lam).abs().max() > 1e-3
    assert losses['aligned_share'].item() == pytest.approx(share.mean().item(), rel=1e-5)
    assert not losses['aligned_share'].requires_grad
    labels, share = torch.eye(CLASSES)[:4], share[:, None]
    label = share * labels + (1 - share) * labels.flip(0)
    loss = -(label * scores.log_softmax(1)).sum(1).mean()
    assert losses['loss'].item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(found, weight.grad)
