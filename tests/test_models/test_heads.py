"""Aligned forms of the host's heads, and what cannot be one."""

import pickle

import pytest
import torch
from mmpretrain.models import ClsHead
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmtlalign.models import MixRecord
from mmtlalign.models.heads.tlalign_head import ALIGNED_FORMS

from .test_tlalign import BCE, SOFT_CE, config

CLASSES, DIMS = 5, 16
SOFT = dict(type='CrossEntropyLoss', use_soft=True)
BINARY = dict(type='CrossEntropyLoss', use_sigmoid=True)
OTHER_LOSSES = [
    dict(type='LabelSmoothLoss', label_smooth_val=0.2, mode='classy_vision'),
    SOFT,
    BCE,
    dict(BINARY, loss_weight=1 / CLASSES),
]
WIDE = dict(num_classes=CLASSES, in_channels=DIMS)
HEADS = dict(  # arguments of the stock head
    ClsHead={},
    LinearClsHead=WIDE,
    StackedLinearClsHead=dict(WIDE, mid_channels=[8]),
    VisionTransformerClsHead=dict(WIDE, hidden_dim=7, init_cfg=None),
    DeiTClsHead=dict(WIDE, init_cfg=None),
    LeViTClsHead=dict(WIDE, distillation=False),
    ConformerHead=dict(num_classes=CLASSES, in_channels=[DIMS, 6]),
    EfficientFormerClsHead=dict(WIDE, distillation=False),
    VigClsHead=dict(WIDE, hidden_dim=8),
)
FEATURES = dict(ClsHead=CLASSES, DeiTClsHead=[DIMS, DIMS], ConformerHead=[DIMS, 6])


def build_pair(name, loss):
    """A stock head and its aligned form with the same weights."""
    cfg, dims = HEADS[name], FEATURES.get(name, DIMS)
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
    found, todo = set(), [ClsHead]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if cls.__module__.startswith('mmpretrain.'):
            found.add(cls.__name__)
    hard = {'ArcFaceClsHead', 'RegressionHead', 'LinearRegressionHead'}
    assert {stock.__name__ for stock in ALIGNED_FORMS} == found - hard
    assert set(HEADS) == found - hard
    for stock, form in ALIGNED_FORMS.items():
        assert form.__name__ == f'TLAlign{stock.__name__}'
        assert pickle.loads(pickle.dumps(form)) is form


@pytest.mark.parametrize(
    'name, loss',
    [*((name, SOFT_CE) for name in HEADS), *(('LinearClsHead', loss) for loss in OTHER_LOSSES)],
)
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
        given_samples = samples(own)
        found = aligned.loss(feats, given_samples, mix=record, share=given)
        expected = stock.loss(feats, samples(target))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(torch.stack([s.gt_score for s in given_samples]), own), 'labels stay'
    torch.testing.assert_close(aligned.loss(feats, samples(own)), stock.loss(feats, samples(own)))


@pytest.mark.parametrize(
    'head, error, message',
    [
        (dict(type='MultiLabelLinearClsHead'), TypeError, 'MultiLabel.* mixed .*VisionTransformer'),
        (dict(type='LeViTClsHead'), ValueError, 'LeViTClsHead .*distillation=True'),
        (dict(type='EfficientFormerClsHead'), ValueError, 'distillation=True'),
        (dict(cal_acc=True), ValueError, 'cal_acc=True'),
        (dict(loss=dict(SOFT_CE, mode='multi_label')), ValueError, "mode='multi_label'"),
        (dict(loss=dict(type='SeesawLoss', num_classes=5)), ValueError, 'Seesaw.* hard labels'),
        (dict(loss=dict(SOFT_CE, use_sigmoid=True)), ValueError, 'loss_weight: 1/.* = 1/5'),
        (dict(loss=BINARY), ValueError, 'loss_weight: 1/num_classes = 1/5'),
    ],
)
def test_heads_that_cannot_be_trained_on_mixed_labels(head, error, message):
    head = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=16) | head
    cfg = dict(config(), head=head)
    with pytest.raises(error, match=message) as info:
        MODELS.build(cfg)
    assert '\n' not in str(info.value)
    MODELS.build(dict(cfg, train_cfg=None))  # without mixing, all may train
    MODELS.build(config(loss=dict(BCE, loss_weight=1.0)))  # which may be meant
