"""Preprocessor, classifier and heads: one training step, end to end."""

import copy

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample, MultiTaskDataSample

from mmtlalign import TokenKeeping, TokenMerging
from mmtlalign.alignment import LabelTrace
from mmtlalign.alignment.families import supported_backbones
from mmtlalign.checkpoint.plain_types import PLAIN
from mmtlalign.models.heads.tlalign_head import ALIGNED_FORMS

MEAN, STD = [10.0, 20.0, 30.0], [2.0, 3.0, 4.0]
SOFT_CE = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
BCE = dict(SOFT_CE, use_sigmoid=True, loss_weight=1 / 5)  # of 5 classes
AREA = dict(type='mmtlalign.AreaTarget')


def mixing(kind, patch_size=4, **kwargs):
    mix = dict(type=f'mmtlalign.{kind}', patch_size=patch_size, **kwargs)
    return dict(augments=[mix])


MIX_TOKEN, TOKEN_CUTMIX = mixing('MixToken'), mixing('TokenCutMix')


def config(swin=False, loss=SOFT_CE, **kwargs):
    if swin:
        arch = dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2])
        backbone = dict(type='SwinTransformer', patch_size=2, window_size=4, out_indices=(1,))
    else:
        arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
        backbone = dict(type='VisionTransformer', patch_size=4, drop_path_rate=0.1)
    head = f'mmtlalign.TLAlign{"Linear" if swin else "VisionTransformer"}ClsHead'
    return (
        dict(
            type='mmtlalign.TLAlignClassifier',
            backbone=dict(backbone, img_size=16, arch=arch),
            neck=dict(type='GlobalAveragePooling') if swin else None,
            head=dict(type=head, num_classes=5, in_channels=16, loss=loss),
            train_cfg=mixing('TokenCutMix', backbone['patch_size']),
            data_preprocessor=dict(num_classes=5, mean=MEAN, std=STD),
        )
        | kwargs
    )


def build(**kwargs):
    model = MODELS.build(config(**kwargs))
    # Weights that make attention uneven and logits different from zero.
    torch.manual_seed(1)
    for param in model.parameters():
        if param.ndim > 1:
            torch.nn.init.normal_(param, std=0.3)
    if model.data_preprocessor.batch_augments is not None:
        model.data_preprocessor.batch_augments.seed(1)
    return model


DISTILLED = dict(config()['backbone'], type='DistilledVisionTransformer')


def data(batch=4, size=16):
    inputs = torch.rand(batch, 3, size, size) * 60
    samples = [DataSample().set_gt_label(i % 5) for i in range(batch)]
    return dict(inputs=inputs, data_samples=samples)


def cross_entropy(scores, target):
    """Of one-hot or mixed targets (..., 5), smoothed by .1; the mean."""
    smooth = 0.9 * target + 0.1 / 5
    return -(smooth * scores.log_softmax(-1)).sum(-1).mean()


def test_preprocessor_hands_on_the_record():
    preprocessor, raw = build().data_preprocessor, data()
    plain = (raw['inputs'] - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    batch = preprocessor(copy.deepcopy(raw), training=True)
    assert batch.keys() == {'inputs', 'data_samples', 'mix'}
    record = batch['mix']
    preprocessor.batch_augments.seed(1)
    drawn = preprocessor.batch_augments.draw(plain)
    assert torch.equal(record.token_share, drawn.token_share)
    assert 0 < record.lam[0] < 1, 'a draw that mixes nothing tests nothing'
    assert record.partner.tolist() == [3, 2, 1, 0]
    own = record.token_share.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    torch.testing.assert_close(batch['inputs'], own * plain + (1 - own) * plain.flip(0))
    torch.testing.assert_close(record.lam, record.token_share.mean((1, 2)))
    for i, sample in enumerate(batch['data_samples']):
        assert sample.gt_score.tolist() == np.eye(5)[i].tolist()
        assert set(sample.keys()) == {'gt_label', 'gt_score'}


def test_a_classifier_that_would_not_take_the_record_is_refused():
    cfg = config(type='ImageClassifier')
    cfg['head']['type'] = 'VisionTransformerClsHead'
    cfg['data_preprocessor']['type'] = 'mmtlalign.TLAlignDataPreprocessor'
    stock = MODELS.build(cfg)
    message = "set the model's type to 'mmtlalign.TLAlignClassifier'"
    with pytest.raises(TypeError, match=message) as error:
        stock.train_step(data(), OptimWrapper(torch.optim.SGD(stock.parameters(), lr=0.1)))
    assert '\n' not in str(error.value)
    assert len(stock.test_step(data())) == 4, 'it may be tested'


def test_unmixed_batches_need_no_special_case():
    never, nothing = build(train_cfg=dict(TOKEN_CUTMIX, probs=[0.0])).eval(), build(train_cfg=None)
    nothing.load_state_dict(never.state_dict())
    raw = data()
    batch = never.data_preprocessor(copy.deepcopy(raw), training=True)
    losses = never.loss(**batch)
    assert losses['lam'] == 1 and losses['aligned_share'].item() == pytest.approx(1)
    expected = nothing.eval().loss(**nothing.data_preprocessor(raw, training=True))
    assert losses['loss'].item() == pytest.approx(expected['loss'].item(), rel=1e-6)


@pytest.mark.parametrize('swin', [False, True])
def test_checkpoint_and_prediction_are_the_hosts(swin):
    cfg = config(swin=swin, train_cfg=None)
    model = build(**cfg).eval()
    kind = cfg['head']['type'].replace('mmtlalign.TLAlign', '')
    stock = MODELS.build(
        dict(cfg, type='ImageClassifier', head=dict(cfg['head'], type=kind))
    ).eval()
    stock.load_state_dict(model.state_dict(), strict=True)
    batch = data()
    ours, host = (either.test_step(copy.deepcopy(batch)) for either in (model, stock))
    for a, b in zip(ours, host):
        assert torch.equal(a.pred_score, b.pred_score)
        assert set(a.keys()) == set(b.keys())


KEEP = dict(keep_rate=0.5, blocks=[0])


@pytest.mark.parametrize(
    'cfg, cls, arguments',
    [(dict(r=3), TokenMerging, dict(r=3)), (dict(KEEP, type='TokenKeeping'), TokenKeeping, KEEP)],
    ids=['merging', 'keeping'],
)
@pytest.mark.parametrize('target', ['AreaTarget', 'AlignedTarget'])
def test_training_and_inference_merge_alike(cfg, cls, arguments, target):
    kwargs = dict(target=dict(type=f'mmtlalign.{target}'))
    model, plain = build(token_merging=cfg, **kwargs), build(**kwargs)
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.load_state_dict(plain.state_dict())
    model.eval(), plain.eval()  # no random depth
    batch = model.data_preprocessor(data(), training=True)
    images, record = batch['inputs'], batch['mix']
    losses = model(**batch, mode='loss')
    reduction = cls(plain.backbone, **arguments)
    trace = LabelTrace(plain.backbone, token_merging=reduction)
    with trace(record.token_share):
        feats = plain.extract_feat(images)
    share = trace.output_share if target == 'AlignedTarget' else record.lam
    expected = plain.head.loss(feats, batch['data_samples'], mix=record, share=share)
    torch.testing.assert_close(losses['loss'], expected['loss'])

    with cls(plain.backbone, **arguments):
        merged = plain(images)[0]
    torch.testing.assert_close(model(images)[0], merged)
    assert (merged - plain(images)[0]).abs().max() > 1e-3
    assert 'forward' not in vars(model.backbone)


def test_soft_labels_may_come_with_the_data():
    batch, scores = data(), torch.rand(4, 5).softmax(1)
    batch['data_samples'] = [DataSample().set_gt_score(score) for score in scores]
    samples = build().data_preprocessor(batch, training=True)['data_samples']
    torch.testing.assert_close(torch.stack([sample.gt_score for sample in samples]), scores)


@pytest.mark.parametrize(
    'samples, message',
    [
        ([DataSample().set_gt_label(1), DataSample().set_gt_label([1, 3])], r'Sample 1 .*\[1, 3\]'),
        ([DataSample()], r'Sample 0 has labels \[\]'),
        ([MultiTaskDataSample()], 'MultiTaskDataSample'),
        (None, 'NoneType'),
    ],
)
def test_samples_without_one_label_are_refused(samples, message):
    batch = dict(inputs=torch.rand(len(samples or [0]), 3, 16, 16), data_samples=samples)
    with pytest.raises(ValueError, match=message):
        build().data_preprocessor(batch, training=True)


def preprocess(**kwargs):
    return dict(data_preprocessor=dict(config()['data_preprocessor'], **kwargs))


@pytest.mark.slow
@pytest.mark.parametrize(
    'change, error, message',
    [
        (preprocess(num_classes=None), ValueError, '`num_classes`.*top level'),
        (preprocess(mean=None), ValueError, '`mean`.*top level'),
        (preprocess(type='ClsDataPreprocessor'), TypeError, 'ClsDataPreprocessor leaves no record'),
        (preprocess(to_onehot=False), ValueError, 'to_onehot=False'),
        (preprocess(batch_augments=MIX_TOKEN), TypeError, 'named twice'),
        (dict(backbone=dict(type='ResNet', depth=18)), TypeError, 'ResNet'),
        (dict(backbone=DISTILLED), TypeError, 'DistilledVision.* outputs two tokens.*DeiTClsHead'),
        (dict(head=None), TypeError, 'need a head'),
        (dict(token_merging='r'), TypeError, "token_merging='r'"),
        (dict(token_merging={}), TypeError, r'such as dict\(r=13\)'),
        (dict(token_merging=dict(type='Other')), ValueError, "'Other' must be one of"),
        (dict(token_merging=dict(r=-1)), ValueError, 'r=-1'),
        (dict(swin=True, token_merging=dict(r=3)), TypeError, 'SwinTransformer'),
    ],
)
def test_mistakes(change, error, message):
    with pytest.raises(error, match=message) as info:
        build(**change)
    assert '\n' not in str(info.value)


def test_what_can_be_trained_can_be_published():
    names = [name.partition('.') for name in supported_backbones()]
    backbones = {kind for host, _, kind in names if host in ('mmpretrain', 'mmdet', 'mmseg')}
    backbones.remove('TIMMBackbone')  # which may download
    assert backbones and backbones <= PLAIN
    assert {head.__name__ for head in ALIGNED_FORMS} <= PLAIN
