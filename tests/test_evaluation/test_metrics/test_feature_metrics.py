"""k-NN and linear probe, recomputed; both in a runner."""

import math
import pickle

import numpy as np
import pytest
import torch
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from mmpretrain.utils import register_all_modules
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from mmtlalign.errors import UserError
from mmtlalign.evaluation import Isotropy, KNNAccuracy, LinearProbe


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
    metric.chunk_size = 7  # several chunks
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


def test_knn_needs_a_bank_of_k():
    metric = KNNAccuracy(k=61)
    metric.bank = cloud(60)
    with pytest.raises(UserError, match=r'KNNAccuracy\(k=61\) .* has 60'):
        metric.measure(*cloud(3))
    with pytest.raises(UserError, match='k=0'):
        KNNAccuracy(k=0)


def test_probe_chooses_on_a_part_of_the_bank():
    """Standardised by hand; the search spelled out."""
    grid = (1e-4, 1e-2, 1.0, 100.0)
    metric = LinearProbe(grid=grid)
    metric.bank = cloud(90)
    metric.bank = (metric.bank[0] * 9 + 5, metric.bank[1])
    features, labels = cloud(60, seed=1)
    found = metric.measure(features * 9 + 5, labels)

    def accuracy(c, fit, fit_labels, test, test_labels):
        mean, std = fit.mean(0), fit.std(0)
        model = LogisticRegression(C=c, max_iter=1000).fit((fit - mean) / std, fit_labels)
        return (model.predict((test - mean) / std) == test_labels).mean()

    bank, bank_labels = (array.numpy() for array in metric.bank)
    part, held_out, part_labels, held_out_labels = train_test_split(
        bank, bank_labels, test_size=18, random_state=0, stratify=bank_labels
    )
    scores = [accuracy(c, part, part_labels, held_out, held_out_labels) for c in grid]
    best = grid[scores.index(max(scores))]
    assert len(set(scores)) > 1
    assert found == dict(
        C=best,
        top1=pytest.approx(
            100 * accuracy(best, bank, bank_labels, (features * 9 + 5).numpy(), labels.numpy())
        ),
    )


def test_probe_never_looks_at_tested_labels_to_choose():
    metric = LinearProbe()
    metric.bank = cloud(60)
    features, labels = cloud(30, seed=1)
    chosen = metric.measure(features, labels)['C']
    assert metric.measure(features, (labels + 1) % 3)['C'] == chosen


def test_probe_refuses():
    metric = LinearProbe()
    metric.bank = (torch.randn(4, 3), torch.tensor([0, 0, 1, 1]))
    metric.bank[1][3] = 2
    with pytest.raises(UserError, match='class 1, which has 1 image'):
        metric.measure(*cloud(3))
    with pytest.raises(UserError, match='hold numbers above 0'):
        LinearProbe(grid=[0.0, 1.0])
    with pytest.raises(UserError, match='hold numbers above 0'):
        LinearProbe(grid=[])


# In a runner -------------------------------------------------------------

VIT = dict(
    type='VisionTransformer',
    img_size=8,
    patch_size=4,
    arch=dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8),
)
SWIN = dict(
    type='SwinTransformer',
    img_size=8,
    patch_size=2,
    window_size=2,
    arch=dict(embed_dims=8, depths=[1], num_heads=[2]),
    out_indices=(0,),
)
MODELS = dict(
    classifier=dict(
        type='ImageClassifier',
        backbone=VIT,
        head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=8),
    ),
    swin=dict(
        type='ImageClassifier',
        backbone=SWIN,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=8),
    ),
    lacvit=dict(
        type='mmtlalign.LaCViT',
        backbone=VIT,
        neck=dict(type='MoCoV2Neck', in_channels=8, hid_channels=8, out_channels=4),
        loss=dict(type='mmtlalign.SupervisedContrastiveLoss'),
    ),
)
METRICS = [
    dict(type='mmtlalign.KNNAccuracy', k=3),
    dict(type='mmtlalign.LinearProbe', grid=[1.0]),
    dict(type='mmtlalign.Isotropy'),
]


@DATASETS.register_module(force=True)
class Noise(torch.utils.data.Dataset):
    """Images of noise, brighter in class 1; the pipeline adds to them."""

    def __init__(self, size, seed, pipeline=()):
        self.metainfo = {}
        self.size, self.seed, self.added = size, seed, sum(pipeline)

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        image = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1000 * self.seed + i))
        return dict(
            inputs=image + 0.3 * (i % 2) + self.added, data_samples=DataSample().set_gt_label(i % 2)
        )


def loader(size, seed, pipeline=(0,)):
    return dict(
        batch_size=5,
        num_workers=0,
        dataset=dict(type='Noise', size=size, seed=seed, pipeline=pipeline),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )


def build(folder, model='classifier', metrics=METRICS, **changes):
    register_all_modules(init_default_scope=False)
    torch.manual_seed(0)
    model = dict(MODELS[model])
    model['data_preprocessor'] = dict(mean=[0.0] * 3, std=[1.0] * 3)
    config = dict(
        model=model,
        work_dir=str(folder),
        default_scope='mmpretrain',
        experiment_name=folder.name,
        train_dataloader=loader(24, 1, pipeline=(1000,)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        val_dataloader=loader(13, 2),
        val_cfg=dict(),
        val_evaluator=metrics,
        test_dataloader=loader(13, 2),
        test_cfg=dict(),
        test_evaluator=metrics,
        custom_hooks=[dict(type='mmtlalign.EncoderFeatures')],
    )
    config.update(changes)
    return Runner(
        **{key: value for key, value in config.items() if value is not None},
        cfg=config,
        log_level='ERROR',
    )


def features_of(model, data):
    """By hand: features and labels of a dataset."""
    model.eval()
    images = torch.stack([data[i]['inputs'] for i in range(len(data))])
    with torch.no_grad():
        feature = model.backbone(images)[-1]
    if feature.ndim == 4:
        feature = feature.flatten(2).mean(2)
    return feature, torch.arange(len(data)) % 2


@pytest.mark.parametrize('model', MODELS)
def test_in_a_runner(model, tmp_path):
    """On any model, from the training images in the test pipeline."""
    runner = build(tmp_path, model)
    found = runner.test()
    bank = features_of(runner.model, Noise(24, 1))
    tested = features_of(runner.model, Noise(13, 2))
    expected = {}
    for metric in (KNNAccuracy(k=3), LinearProbe(grid=[1.0]), Isotropy()):
        metric.bank = bank
        for name, value in metric.measure(*tested).items():
            expected[f'{metric.prefix}/{name}'] = pytest.approx(value, rel=1e-4)
    assert found == expected
    assert len(found) == 6
    for module in runner.model.modules():
        assert not module._forward_hooks


def test_bank_is_extracted_once_for_all_metrics(tmp_path, monkeypatch):
    runner = build(tmp_path)
    built = []
    stock = runner.build_dataloader
    monkeypatch.setattr(
        runner,
        'build_dataloader',
        lambda config, **kwargs: built.append(config) or stock(config, **kwargs),
    )
    runner.test()
    assert [config['dataset']['seed'] for config in built] == [2, 1]
    assert built[1]['dataset']['pipeline'] == (0,)


def test_own_bank(tmp_path):
    bank = dict(type='mmtlalign.EncoderFeatures', bank_dataloader=loader(2, 3))
    with pytest.raises(UserError, match=r'k=3\) .* has 2; lower k'):
        build(tmp_path, custom_hooks=[bank]).test()


def test_in_validation(tmp_path):
    runner = build(tmp_path)
    assert runner.val() == runner.test()


def test_predictions_stay_and_features_are_dumped(tmp_path):
    """Beside the host's metrics; samples carry what was measured."""
    runner = build(tmp_path, metrics=[*METRICS, dict(type='Accuracy')])
    runner.test_evaluator.metrics.append(DumpResults(str(tmp_path / 'all.pkl')))
    found = runner.test()
    assert 'accuracy/top1' in found
    dumped = pickle.loads((tmp_path / 'all.pkl').read_bytes())
    expected, _ = features_of(runner.model, Noise(13, 2))
    torch.testing.assert_close(torch.stack([sample['feature'] for sample in dumped]), expected)


def test_without_such_metrics_nothing_is_attached(tmp_path):
    runner = build(tmp_path, metrics=[dict(type='Accuracy')])
    runner.test_evaluator.metrics.append(DumpResults(str(tmp_path / 'all.pkl')))
    runner.test()
    dumped = pickle.loads((tmp_path / 'all.pkl').read_bytes())
    assert 'feature' not in dumped[0]


def test_missing_hook_and_missing_bank(tmp_path):
    with pytest.raises(
        UserError,
        match='Isotropy finds no features: add '
        r"dict\(type='mmtlalign.EncoderFeatures'\)",
    ):
        build(tmp_path, metrics=[dict(type='mmtlalign.Isotropy')], custom_hooks=None).test()
    for training in (
        None,
        dict(loader(4, 1), dataset=dict(type='RepeatDataset', dataset=dict(), times=2)),
    ):
        runner = build(tmp_path)
        runner.cfg['train_dataloader'] = training
        with pytest.raises(UserError, match='give EncoderFeatures a bank_dataloader'):
            runner.test()
    metric = KNNAccuracy(k=1)
    with pytest.raises(UserError, match='KNNAccuracy has no bank'):
        metric.compute_metrics([(torch.ones(2), torch.zeros(1))])
