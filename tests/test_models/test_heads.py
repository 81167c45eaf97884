"""Aligned forms of the host's heads, and what cannot be one."""

import pickle

import pytest
import torch
from mmpretrain.models import ClsHead
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmtlalign.models import AlignedLabelHead, MixRecord
from mmtlalign.models.heads.tlalign_head import ALIGNED_FORMS

from .test_tlalign import BCE, SOFT_CE, build, config, data

CLASSES, DIMS = 5, 16
SMOOTH = dict(type='LabelSmoothLoss', label_smooth_val=0.2, mode='classy_vision')
SOFT = dict(type='CrossEntropyLoss', use_soft=True)
PLAIN_BCE = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1 / CLASSES)
# Arguments of the stock head, and features that it reads
HEADS = dict(
    ClsHead=(dict(), CLASSES),
    LinearClsHead=(dict(num_classes=CLASSES, in_channels=DIMS), DIMS),
    StackedLinearClsHead=(dict(num_classes=CLASSES, in_channels=DIMS, mid_channels=[8]), DIMS),
    VisionTransformerClsHead=(
        dict(num_classes=CLASSES, in_channels=DIMS, hidden_dim=7, init_cfg=None),
        DIMS,
    ),
    DeiTClsHead=(dict(num_classes=CLASSES, in_channels=DIMS, init_cfg=None), [DIMS, DIMS]),
    LeViTClsHead=(dict(num_classes=CLASSES, in_channels=DIMS, distillation=False), DIMS),
    ConformerHead=(dict(num_classes=CLASSES, in_channels=[DIMS, 6]), [DIMS, 6]),
    EfficientFormerClsHead=(dict(num_classes=CLASSES, in_channels=DIMS, distillation=False), DIMS),
    VigClsHead=(dict(num_classes=CLASSES, in_channels=DIMS, hidden_dim=8), DIMS),
)


def build_pair(name, loss):
    """A stock head and its aligned form with the same weights."""
    cfg, dims = HEADS[name]
    torch.manual_seed(0)
    stock = MODELS.build(dict(cfg, type=name, loss=dict(loss))).train()
    aligned = MODELS.build(dict(cfg, type=f'mmtlalign.TLAlign{name}', loss=dict(loss))).train()
    aligned.load_state_dict(stock.state_dict(), strict=True)
    feats = [torch.randn(4, d) for d in dims] if isinstance(dims, list) else torch.randn(4, dims)
    return stock, aligned, (feats,)


def mixed():
    record = MixRecord(
        torch.tensor([2, 0, 3, 1]), torch.ones(4, 2, 2), torch.tensor([0.25, 0.5, 0.75, 1.0])
    )
    return record, torch.rand(4, CLASSES).softmax(1)


def samples(scores):
    return [DataSample().set_gt_score(score) for score in scores]


def test_every_soft_label_head_of_the_host_has_a_form():
    found = set()
    todo = [ClsHead]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if cls.__module__.startswith('mmpretrain.'):
            found.add(cls.__name__)
    hard = {'ArcFaceClsHead', 'RegressionHead', 'LinearRegressionHead'}
    assert {stock.__name__ for stock in ALIGNED_FORMS} == found - hard
    assert set(HEADS) == found - hard


@pytest.mark.parametrize(
    'loss',
    [SOFT_CE, SMOOTH, SOFT, BCE, PLAIN_BCE],
    ids=['smooth', 'classy', 'soft', 'bce', 'plain bce'],
)
@pytest.mark.parametrize('name', HEADS)
def test_loss_is_the_hosts_on_aligned_scores(name, loss):
    stock, aligned, feats = build_pair(name, loss)
    record, own = mixed()
    share = torch.tensor([0.1, 0.9, 0.4, 1.0])
    pair = torch.stack((share, torch.tensor([0.2, 0.8, 0.1, 0.5])), dim=1)
    for given, weights in (
        (share, torch.stack((share, 1 - share), 1)),
        (pair, pair),
        (None, torch.stack((record.lam, 1 - record.lam), 1)),
        (lambda scores: share, torch.stack((share, 1 - share), 1)),
    ):
        target = torch.stack(
            [weights[i, 0] * own[i] + weights[i, 1] * own[record.partner[i]] for i in range(4)]
        )
        expected = stock.loss(feats, samples(target))
        given_samples = samples(own)
        found = aligned.loss(feats, given_samples, mix=record, share=given)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        assert all(torch.equal(s.gt_score, o) for s, o in zip(given_samples, own)), (
            'own labels stay'
        )
    torch.testing.assert_close(aligned.loss(feats, samples(own)), stock.loss(feats, samples(own)))


def test_a_share_may_be_computed_from_scores_and_carry_gradient():
    stock, aligned, feats = build_pair('LinearClsHead', SOFT)
    record, own = mixed()
    calls = []

    def share(scores):
        calls.append(scores)
        return scores.softmax(1)[:, 0]

    aligned.loss(feats, samples(own), mix=record, share=share)['loss'].backward()
    assert len(calls) == 1
    scores = stock(feats)
    part = scores.softmax(1)[:, :1]
    target = part * own + (1 - part) * own[record.partner]
    (-(target * scores.log_softmax(1)).sum(1).mean()).backward()
    torch.testing.assert_close(aligned.fc.weight.grad, stock.fc.weight.grad)
    assert torch.equal(aligned(feats), calls[0])


def test_forms_are_classes_of_their_module():
    for stock, form in ALIGNED_FORMS.items():
        assert issubclass(form, (AlignedLabelHead, stock))
        assert form.__name__ == f'TLAlign{stock.__name__}'
        assert pickle.loads(pickle.dumps(form)) is form


def test_a_stock_head_in_a_config_is_built_in_its_aligned_form():
    named, stock = config(), config()
    stock['head']['type'] = 'VisionTransformerClsHead'
    models = [MODELS.build(cfg) for cfg in (named, stock)]
    assert type(models[0].head) is type(models[1].head)
    models[1].load_state_dict(models[0].state_dict(), strict=True)
    losses = []
    for model in models:
        model.data_preprocessor.batch_augments.seed(0)
        torch.manual_seed(0)
        batch = model.data_preprocessor(data(), training=True)
        losses.append(model.loss(**batch)['loss'])
    assert losses[0] == losses[1]


def test_the_distilled_pair_trains_on_the_mean_of_both_tokens():
    model = build(
        backbone=dict(
            type='DistilledVisionTransformer',
            img_size=16,
            patch_size=4,
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        ),
        head=dict(type='DeiTClsHead', num_classes=5, in_channels=16, loss=SOFT_CE),
    )
    batch = model.data_preprocessor(data(), training=True)
    losses = model.loss(**batch)
    share = model.trace.output_share
    with torch.no_grad():
        scores = model(batch['inputs'])
    own = torch.eye(5)[:4]
    target = share[:, None] * own + (1 - share[:, None]) * own.flip(0)
    expected = -((0.9 * target + 0.02) * scores.log_softmax(1)).sum(1).mean()
    assert losses['loss'].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    'head, error, message',
    [
        (dict(type='ArcFaceClsHead'), TypeError, 'ArcFaceClsHead cannot'),
        (
            dict(type='MultiLabelLinearClsHead'),
            TypeError,
            'MultiLabelLinearClsHead cannot be trained on mixed labels.*VisionTransformerClsHead',
        ),
        (
            dict(type='LeViTClsHead', distillation=True),
            ValueError,
            'LeViTClsHead .*distillation=True',
        ),
        (dict(type='EfficientFormerClsHead'), ValueError, 'distillation=True'),
        (dict(type='LinearClsHead', cal_acc=True), ValueError, 'cal_acc=True'),
        (
            dict(type='LinearClsHead', loss=dict(SOFT_CE, mode='multi_label')),
            ValueError,
            "mode='multi_label'",
        ),
        (
            dict(type='LinearClsHead', loss=dict(type='SeesawLoss', num_classes=CLASSES)),
            ValueError,
            'SeesawLoss needs hard labels',
        ),
        (
            dict(type='LinearClsHead', loss=dict(SOFT_CE, use_sigmoid=True)),
            ValueError,
            'loss_weight: 1/num_classes = 1/5',
        ),
        (
            dict(type='LinearClsHead', loss=dict(type='CrossEntropyLoss', use_sigmoid=True)),
            ValueError,
            'loss_weight: 1/num_classes = 1/5',
        ),
    ],
    ids=lambda value: value.get('type') if isinstance(value, dict) else '',
)
def test_heads_that_cannot_be_trained_on_mixed_labels(head, error, message):
    cfg = dict(config(), head=dict(num_classes=CLASSES, in_channels=16, **head))
    with pytest.raises(error, match=message) as info:
        MODELS.build(cfg)
    assert '\n' not in str(info.value)
    MODELS.build(dict(cfg, train_cfg=None))  # without mixing, all may train


def test_a_loss_weight_of_one_may_be_meant():
    MODELS.build(config(loss=dict(BCE, loss_weight=1.0)))
