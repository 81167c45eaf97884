"""k-NN, linear probe and isotropy, recomputed; all in a runner."""

import math
import pickle
from copy import deepcopy
from itertools import combinations
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner
from scipy.spatial.distance import cosine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from mmtlalign.errors import UserError
from mmtlalign.evaluation import (
    Isotropy,
    KNNAccuracy,
    LinearProbe,
    iso_score,
    mean_cosine,
    partition_score,
)
from tests.tiny import write_project


def cloud(size, classes=3, channels=4, seed=0):
    """Overlapping classes: features (N, C), float32, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % classes
    features = 1.2 * np.eye(channels)[labels] + rng.normal(scale=0.8, size=(size, channels))
    return (torch.from_numpy(features).float(), torch.from_numpy(labels))


@pytest.mark.parametrize('k, temperature', [(1, 0.07), (7, 0.07), (7, 5.0)])
def test_knn_equals_a_loop(k, temperature):
    metric = KNNAccuracy(k=k, temperature=temperature)
    metric.bank = bank, bank_labels = cloud(60)
    features, labels = cloud(20, seed=1)
    right = 0
    for feature, label in zip(features, labels):
        cosine = torch.cosine_similarity(feature, bank, dim=1).tolist()
        nearest = sorted(range(60), key=lambda i: -cosine[i])[:k]
        votes = [0.0] * 3
        for i in nearest:
            votes[bank_labels[i]] += math.exp(cosine[i] / temperature)
        right += votes.index(max(votes)) == label
    assert metric.measure(features, labels) == dict(top1=100 * right / 20)
    assert 8 < right < 20


def test_probe_chooses_on_a_part_of_the_bank():
    """Standardised by hand; the search spelled out."""
    grid = (1e-4, 1e-2, 1.0, 100.0)
    metric = LinearProbe(grid=grid)
    (bank, bank_labels), (features, labels) = (
        (9 * f + 5, y) for f, y in (cloud(90), cloud(60, seed=1))
    )
    metric.bank = bank, bank_labels
    found = metric.measure(features, labels)

    def accuracy(c, fit, fit_labels, test, test_labels):
        mean, std = fit.mean(0), fit.std(0)
        model = LogisticRegression(C=c, max_iter=1000).fit((fit - mean) / std, fit_labels)
        return (model.predict((test - mean) / std) == test_labels).mean()

    bank, bank_labels, features, tested = (
        array.numpy() for array in (bank, bank_labels, features, labels)
    )
    split = train_test_split(bank, bank_labels, test_size=18, random_state=0, stratify=bank_labels)
    part, held_out, part_labels, held_out_labels = split
    scores = [accuracy(c, part, part_labels, held_out, held_out_labels) for c in grid]
    best = grid[scores.index(max(scores))]
    assert len(set(scores)) > 1
    top1 = 100 * accuracy(best, bank, bank_labels, features, tested)
    assert found == dict(C=best, top1=pytest.approx(top1))
    # in which tested labels have no say
    assert metric.measure(torch.from_numpy(features), (labels + 1) % 3)['C'] == best


# Isotropy of clouds whose answers are known


def cross(dimensions, channels):
    """Both ends of the first few axes: even in just those dimensions."""
    axes = np.eye(channels)[:dimensions]
    return np.concatenate([axes, -axes])


def test_iso_score():
    """(k - 1) / (C - 1) if k of C dimensions are used, and all alike."""
    for used in (1, 2, 3, 8):
        assert iso_score(cross(used, 8)) == pytest.approx((used - 1) / 7, abs=1e-12)
    assert iso_score(np.zeros((7, 5))) == iso_score(np.full((7, 5), 0.1)) == 0
    # formula of the docstring by hand, for variances 3 and 1 of two
    cloud = cross(2, 2) * np.sqrt([[3], [1], [3], [1]])
    v = [math.sqrt(2) * part / math.hypot(3, 1) for part in (3, 1)]
    delta = math.hypot(v[0] - 1, v[1] - 1) / math.sqrt(2 * (2 - math.sqrt(2)))
    phi = (2 - delta**2 * (2 - math.sqrt(2))) ** 2 / 4
    assert iso_score(cloud) == pytest.approx(2 * phi - 1) == pytest.approx(0.6)
    # place, scale and rotation say nothing
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(50, 4)) * [1, 2, 3, 4]
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    assert iso_score(7 * cloud @ rotation + 5) == pytest.approx(iso_score(cloud))


def test_mean_cosine_is_that_of_all_pairs():
    cloud = np.random.default_rng(0).normal(size=(20, 3)) + 0.5
    cosines = [1 - cosine(a, b) for a, b in combinations(cloud, 2)]
    assert mean_cosine(cloud) == pytest.approx(np.mean(cosines))
    assert mean_cosine(np.full((7, 5), 0.1)) == pytest.approx(1)


def test_partition_score_by_both_signs():
    """One axis holds 2 and -1; the other nothing: Z is known for each."""
    cloud = np.array([[2.0, 0.0], [-1.0, 0.0]])
    z = [math.exp(2) + math.exp(-1), math.exp(-2) + math.exp(1), 2]
    assert partition_score(cloud) == pytest.approx(min(z) / max(z))
    assert partition_score(-cloud) == pytest.approx(min(z) / max(z))
    assert partition_score(cross(4, 4)) == pytest.approx(1)
    # exp(-3999) and less, without an overflow
    assert partition_score(np.array([[2000.0, 0.0], [1999.0, 0.0]])) == 0


def test_isotropy_normalizes():
    cloud = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    labels = torch.zeros(4)
    at_length_one = Isotropy().measure(cloud, labels)
    as_it_is = Isotropy(normalize=False).measure(cloud, labels)
    assert at_length_one['iso_score'] == pytest.approx(1)
    assert at_length_one['partition_score'] == pytest.approx(1)
    assert as_it_is['iso_score'] == pytest.approx(iso_score(cloud.numpy()))
    assert as_it_is['iso_score'] < 0.9
    assert at_length_one['mean_cosine'] == as_it_is['mean_cosine'] == (pytest.approx(-1 / 3))


def test_mistakes():
    metric = KNNAccuracy(k=61)
    with pytest.raises(UserError, match='KNNAccuracy has no bank'):
        metric.compute_metrics([(torch.ones(2), torch.zeros(1))])
    metric.bank = cloud(60)
    with pytest.raises(UserError, match=r'KNNAccuracy\(k=61\) .* has 60'):
        metric.measure(*cloud(3))
    with pytest.raises(UserError, match='k=0'):
        KNNAccuracy(k=0)
    metric = LinearProbe()
    metric.bank = (torch.randn(4, 3), torch.tensor([0, 0, 1, 2]))
    with pytest.raises(UserError, match='class 1, which has 1 image'):
        metric.measure(*cloud(3))
    for grid in [0.0, 1.0], []:
        with pytest.raises(UserError, match='hold numbers above 0'):
            LinearProbe(grid=grid)
    for shape in (1, 5), (5, 1):
        with pytest.raises(UserError, match=f'not {shape[0]} and {shape[1]}'):
            Isotropy().measure(torch.ones(shape), torch.ones(shape[0]))


# In a runner, on other images than those of the training

METRICS = [
    dict(type='mmtlalign.KNNAccuracy', k=3),
    dict(type='mmtlalign.LinearProbe', grid=[1.0]),
    dict(type='mmtlalign.Isotropy'),
]
NECK = dict(type='MoCoV2Neck', in_channels=16, hid_channels=8, out_channels=4)
LOSS = dict(type='mmtlalign.SupervisedContrastiveLoss')


@pytest.fixture
def cfg(tmp_path):
    cfg = Config.fromfile(write_project(tmp_path))
    for path in (tmp_path / 'images').glob('*/*'):
        other = tmp_path / 'others' / path.relative_to(tmp_path / 'images')
        mmcv.imwrite(255 - mmcv.imread(path), str(other))
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'images')
    for phase in ('val', 'test'):
        loader = cfg[f'{phase}_dataloader']
        loader.dataset.data_root = str(tmp_path / 'others')
        loader.collate_fn = dict(type='default_collate')
        cfg[f'{phase}_evaluator'] = METRICS
    hooks = [dict(type='mmtlalign.EncoderFeatures')]
    cfg.update(work_dir=str(tmp_path), log_level='ERROR', custom_hooks=hooks)
    return cfg


def features_of(runner, folder):
    """By hand: features and labels of the images of a folder."""
    loader = deepcopy(runner.cfg.test_dataloader)
    loader.dataset.data_root = str(Path(runner.work_dir, folder))
    samples = list(runner.build_dataloader(loader).dataset)
    images = torch.stack([sample['inputs'] for sample in samples]).float()
    with torch.no_grad():
        features = runner.model.eval().backbone((images - 127) / 60)[-1]
    return features, torch.cat([sample['data_samples'].gt_label for sample in samples])


@pytest.mark.slow
@pytest.mark.parametrize('lacvit', [False, True])
def test_in_a_runner(lacvit, cfg, tmp_path, monkeypatch):
    """From the training images in the test pipeline, extracted once for all metrics, beside the
    host's; samples carry what was measured."""
    if lacvit:
        cfg.model = dict(type='mmtlalign.LaCViT', backbone=cfg.model.backbone, neck=NECK, loss=LOSS)
        del cfg.data_preprocessor['num_classes']
    else:
        cfg.test_evaluator = [*METRICS, dict(type='Accuracy')]
    runner = Runner.from_cfg(cfg)
    built, stock = [], runner.build_dataloader
    monkeypatch.setattr(
        runner,
        'build_dataloader',
        lambda config, **kwargs: built.append(config) or stock(config, **kwargs),
    )
    runner.test_evaluator.metrics.append(DumpResults(str(tmp_path / 'all.pkl')))
    found = runner.test()
    assert [Path(config['dataset']['data_root']).name for config in built] == ['others', 'images']
    features, labels = features_of(runner, 'others')
    dumped = pickle.loads((tmp_path / 'all.pkl').read_bytes())
    torch.testing.assert_close(torch.stack([sample['feature'] for sample in dumped]), features)
    expected = {}
    for metric in (KNNAccuracy(k=3), LinearProbe(grid=[1.0]), Isotropy()):
        metric.bank = features_of(runner, 'images')
        for name, value in metric.measure(features, labels).items():
            expected[f'{metric.prefix}/{name}'] = pytest.approx(value, rel=1e-4)
    assert ('accuracy/top1' in found) != lacvit
    assert {key: found[key] for key in found if 'accuracy' not in key} == expected
    assert len(expected) == 6
    assert not any(module._forward_hooks for module in runner.model.modules())
    assert runner.val() == expected


@pytest.mark.slow
def test_samples_carry_no_features_without_a_metric_of_them(cfg, tmp_path):
    cfg.test_evaluator = dict(type='Accuracy')
    runner = Runner.from_cfg(cfg)
    runner.test_evaluator.metrics.append(DumpResults(str(tmp_path / 'all.pkl')))
    assert 'accuracy/top1' in runner.test()
    dumped = pickle.loads((tmp_path / 'all.pkl').read_bytes())
    assert len(dumped) == 12 and not any('feature' in sample for sample in dumped)


@pytest.mark.slow
def test_mistakes_in_a_runner(cfg):
    few = deepcopy(cfg.test_dataloader)
    few.dataset.indices = 2
    cfg.custom_hooks[0].bank_dataloader = few
    with pytest.raises(UserError, match=r'k=3\) .* has 2; lower k'):
        Runner.from_cfg(cfg).test()
    del cfg.custom_hooks[0]['bank_dataloader']
    runner = Runner.from_cfg(cfg)
    repeated = dict(type='RepeatDataset', dataset=dict(), times=2)
    for training in None, dict(cfg.train_dataloader, dataset=repeated):
        runner.cfg['train_dataloader'] = training
        with pytest.raises(UserError, match='give EncoderFeatures a bank_dataloader'):
            runner.test()
    cfg.update(custom_hooks=[], test_evaluator=METRICS[2])
    hint = r"Isotropy finds no features: add dict\(type='mmtlalign.EncoderFeatures'\)"
    with pytest.raises(UserError, match=hint):
        Runner.from_cfg(cfg).test()
