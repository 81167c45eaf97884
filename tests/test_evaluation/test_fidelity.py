"""Shares against what they should say, recomputed one mix at a time."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier

from mmtlalign.alignment import LabelTrace
from mmtlalign.commands.fidelity import write_table
from mmtlalign.datasets import PlantedDigits
from mmtlalign.errors import UserError
from mmtlalign.evaluation.fidelity import (
    Fidelity,
    Measured,
    bootstrap_weights,
    draw_pairs,
    join,
    summarize,
)
from mmtlalign.visualization import draw_fidelity
from tests.test_models import test_tlalign


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def classifier(**backbone):
    """A tiny one whose attention is far from even."""
    model = test_tlalign.build(
        target=dict(type='mmtlalign.AreaTarget'),
        backbone=test_tlalign.config()['backbone'] | backbone,
        head=dict(type='LinearClsHead', num_classes=10, in_channels=16),
        data_preprocessor=dict(num_classes=10, mean=[118.0] * 3, std=[42.0] * 3),
    )
    return model.eval()


def test_pairs_are_disjoint_and_of_two_classes():
    labels = torch.randint(3, (41,), generator=generator()).tolist()
    pairs = draw_pairs(labels, (4, 6), 100, generator(1))
    images = pairs.images.flatten().tolist()
    assert len(images) == len(set(images))
    for own, partner in pairs.images.tolist():
        assert labels[own] != labels[partner]
    times, (own, rows, cols) = pairs.shares.size(1), pairs.shares.shape[2:]
    assert (own, rows, cols) == (2, 4, 6)
    assert pairs.mixes == 2 * len(pairs.images) * times
    assert times > 1 and abs(pairs.mixes - 100) <= len(pairs.images)
    areas = set()
    for share in pairs.shares.reshape(-1, 4, 6):
        v, u = (share == 0).nonzero(as_tuple=True)
        height, width = v.max() - v.min() + 1, u.max() - u.min() + 1
        assert (share == 0).sum() == height * width  # one box
        assert abs(height / 4 - width / 6) < 0.1 and 0 < share.mean() < 1
        areas.add(share.mean().item())
    assert len(areas) == 3
    again = draw_pairs(labels, (4, 6), 100, generator(1))
    assert torch.equal(again.shares, pairs.shares)
    # few mixes take few pairs, large grids few areas
    pairs = draw_pairs(list(range(100)), (56, 56), 30, generator())
    assert pairs.shares.shape == (15, 1, 2, 56, 56)
    many = draw_pairs(list(range(100)), (56, 56), 600, generator())
    assert len(many.shares.mean((3, 4)).unique()) == 7


@pytest.mark.parametrize(
    'labels, grid, message',
    [([1] * 9, (4, 4), 'no two of 9 test images'), ([1, 2], (1, 5), r'grid of \(1, 5\)')],
)
def test_what_cannot_be_paired(labels, grid, message):
    with pytest.raises(UserError, match=message):
        draw_pairs(labels, grid, 4, generator())


def by_hand(model, images, masks, labels, own, partner, share):
    """Everything that is measured of one mix."""
    kept = share.numpy().repeat(4, 0).repeat(4, 1)
    x, y = (
        (torch.from_numpy(images[i]).permute(2, 0, 1).float() - 118) / 42 for i in (own, partner)
    )
    k = torch.from_numpy(kept)
    mixes = [x * k + y * (1 - k), y * (1 - k), x * k]  # neither, no own, ...
    shares = dict(area=[kept.mean()])
    with torch.no_grad():
        read = [model.backbone(m[None])[-1][0] for m in mixes]
        chances = model(mixes[0][None]).softmax(1)[0]
        for name in ('tlalign', 'contribution'):
            trace = LabelTrace(model.backbone, propagation=name, record=True, watch='class')
            with trace(share[None]):
                model.backbone(mixes[0][None])
            shares[name] = [block[0, 0].item() for block in trace.block_shares]
    attention = trace.attention[0]
    shares['attention'] = [(attention @ share.flatten() / attention.sum()).item()]
    gone = [(read[0] - read[i]).norm().item() for i in (1, 2)]
    seen = [(masks[own] / 255.0 * kept).sum(), (masks[partner] / 255.0 * (1 - kept)).sum()]
    p, q = chances[labels[own]].item(), chances[labels[partner]].item()
    return shares, dict(
        answer=p / (p + q),
        ablation=gone[0] / sum(gone),
        truth=seen[0] / sum(seen) if sum(seen) >= 1 else np.nan,
    )


@pytest.mark.slow
def test_measured_one_by_one():
    pipeline = [dict(type='PackInputs', algorithm_keys=['object_mask'])]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = PlantedDigits('val', 24, object_size=8, image_size=16, pipeline=pipeline)
    model = classifier()
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    images = [item['img'] for item in items]
    masks = [item['object_mask'].pixels for item in items]
    labels = [item['gt_label'] for item in items]
    fidelity = Fidelity(model)
    assert fidelity.grid_of(dataset) == (4, 4)
    pairs = draw_pairs(labels, (4, 4), 30, generator(2))
    parts = list(fidelity.measure(dataset, pairs, batch_size=8))
    assert len(parts) == fidelity.batches(pairs, 8)
    found = join(parts)
    names = {'area', 'tlalign', 'contribution', 'contribution-norm', 'attention'}
    assert set(found.shares) == names
    assert len(found.lam) == pairs.mixes
    seen = [0] * len(pairs.images)
    for n, p in enumerate(found.pair.tolist()):
        share = pairs.shares[p].flatten(0, 1)[seen[p]]
        own, partner = pairs.images[p].tolist()[:: -1 if seen[p] % 2 else 1]
        seen[p] += 1
        shares, references = by_hand(model, images, masks, labels, own, partner, share)
        assert found.lam[n] == pytest.approx(share.mean().item())
        for name, values in shares.items():
            assert found.shares[name][:, n] == pytest.approx(values, abs=1e-5)
        for name, value in references.items():
            assert found.references[name][n] == pytest.approx(value, abs=1e-4, nan_ok=True), name
    assert seen == [2 * pairs.shares.size(1)] * len(seen)


def test_shares_that_a_backbone_lacks():
    """Pooling has no vectors to compare, and attends to nothing."""
    model = ImageClassifier(dict(type='PoolFormer', arch='s12'), head=None)
    fidelity = Fidelity(model)
    assert fidelity.names == ['area', 'tlalign']
    assert set(fidelity.left_out) == {'contribution', 'contribution-norm', 'attention'}
    assert 'needs' in fidelity.left_out['contribution']
    with pytest.raises(ValueError, match='attention over all tokens'):
        Fidelity(model, ['attention'])
    with pytest.raises(ValueError, match="propagation 'nonsense' is unknown"):
        Fidelity(model, ['area', 'nonsense'])
    model = classifier(out_type='avg_featmap', with_cls_token=False)
    assert Fidelity(model).traces['attention'].watch == 'patches'


def measured():
    """Made up: mixes of four areas, two or three of each of 40 pairs."""
    rng = np.random.default_rng(0)
    pair = np.sort([*range(40), *range(40), *rng.permutation(40)[:20]])
    lam = rng.choice([0.2, 0.4, 0.6, 0.8], len(pair))
    seen = lam + 0.1 * rng.normal(size=len(pair))
    share = seen + 0.1 * rng.normal(size=(2, len(pair)))
    truth = seen.copy()
    truth[::7] = np.nan
    return Measured(dict(area=lam[None], good=share), dict(answer=seen, truth=truth), lam, pair)


def naive(x, y, lam):
    """Pooled within areas, and the distance."""
    a, b = x.copy(), y.copy()
    for area in set(lam):
        for values in (a, b):
            values[lam == area] -= values[lam == area].mean()
    return (a @ b) / np.sqrt((a @ a) * (b @ b)), np.sqrt(np.mean((x - y) ** 2))


def test_summary_and_intervals_in_loops():
    data, draws = measured(), 20
    found = summarize(data, draws=draws, seed=4)
    weights = bootstrap_weights(data.pair, draws, 4)
    assert (weights.sum(1) == 40).all() and (weights[0] == 1).all()
    for reference in ('answer', 'truth'):
        for block in range(2):
            drawn = []
            for weight in weights:
                index = np.repeat(np.arange(len(data.pair)), weight[data.pair].astype(int))
                y = data.references[reference][index]
                index, y = index[~np.isnan(y)], y[~np.isnan(y)]
                drawn.append(naive(data.shares['good'][block][index], y, data.lam[index]))
            drawn = np.array(drawn)
            for column, measure in enumerate(('correlation', 'distance')):
                value, low, high = found['good'][reference][measure][block]
                assert value == pytest.approx(drawn[0, column])
                expected = np.percentile(drawn[1:, column], [2.5, 97.5])
                assert [low, high] == pytest.approx(expected.tolist())
    moved = np.abs(data.shares['good'] - data.lam).mean(1)
    assert found['good']['movement'] == pytest.approx(moved.tolist())


def test_the_area_says_nothing_within_equal_area():
    found = summarize(measured(), draws=9)
    assert found['area']['answer']['correlation'] == [[0, 0, 0]]
    assert found['area']['answer']['distance'][0][0] == pytest.approx(0.1, rel=0.3)
    # what the model answers is held against the truth, too
    assert found['answer']['truth']['correlation'][0][0] == pytest.approx(1)
    assert 'answer' not in found['answer']


def test_pictures_show_all_points():
    """In a row of one scale, those of later columns too."""
    held = {
        reference: dict(correlation=[(level,) * 3] * 2, distance=[(level,) * 3] * 2)
        for reference, level in dict(answer=0.1, ablation=0.2, truth=0.9).items()
    }
    figure = draw_fidelity(dict(one=dict(area=held, tlalign=held)), 'title')
    for axes in figure.axes:
        low, high = axes.get_ylim()
        for line in axes.lines:
            values = np.asarray(line.get_ydata(), float)
            assert not values.size or low <= values.min() and values.max() <= high


def test_an_unknown_truth_is_no_number():
    """Table and picture are made all the same, also without the area."""
    rng = np.random.default_rng(0)
    shares, lam = rng.random((2, 8)), np.repeat([0.25, 0.5], 4)
    references = dict(answer=rng.random(8), truth=np.full(8, np.nan))
    found = summarize(Measured(dict(tlalign=shares), references, lam, np.arange(8)), draws=20)
    assert found['tlalign']['truth'] == dict.fromkeys(('correlation', 'distance'), [[None] * 3] * 2)
    assert None not in found['tlalign']['answer']['distance'][-1]
    lines = [*write_table(dict(one=found))]
    assert lines[2].endswith('| not known | not known |')
    assert 'NaN' not in json.dumps(found)
    draw_fidelity(dict(one=found), 'title')
