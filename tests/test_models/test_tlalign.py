"""Preprocessor, classifier and heads: one training step, end to end."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmpretrain.models import ClsDataPreprocessor, ImageClassifier
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample, MultiTaskDataSample

from mmtlalign.alignment import LabelTrace

MEAN, STD = [10.0, 20.0, 30.0], [2.0, 3.0, 4.0]
SOFT_CE = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
BCE = dict(SOFT_CE, use_sigmoid=True, loss_weight=1 / 5)  # of 5 classes
AREA = dict(type='mmtlalign.AreaTarget')
TOKEN_CUTMIX = dict(augments=[dict(type='mmtlalign.TokenCutMix', patch_size=4)])


def config(swin=False, loss=SOFT_CE, **kwargs):
    vit = dict(
        type='VisionTransformer',
        img_size=16,
        patch_size=4,
        drop_path_rate=0.1,
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    )
    backbone, neck, head, dims = vit, None, 'VisionTransformer', 16
    if swin:
        backbone = dict(
            type='SwinTransformer',
            img_size=16,
            patch_size=2,
            window_size=4,
            out_indices=(1,),
            arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]),
        )
        neck, head, dims = dict(type='GlobalAveragePooling'), 'Linear', 16
    return (
        dict(
            type='mmtlalign.TLAlignClassifier',
            backbone=backbone,
            neck=neck,
            head=dict(
                type=f'mmtlalign.TLAlign{head}ClsHead', num_classes=5, in_channels=dims, loss=loss
            ),
            train_cfg=TOKEN_CUTMIX
            if not swin
            else dict(augments=[dict(type='mmtlalign.TokenCutMix', patch_size=2)]),
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
    return model


def data(batch=4, size=16):
    inputs = torch.rand(batch, 3, size, size) * 60
    samples = [DataSample().set_gt_label(i % 5) for i in range(batch)]
    return dict(inputs=inputs, data_samples=samples)


def test_preprocessor_hands_on_the_record():
    preprocessor = build().data_preprocessor
    preprocessor.batch_augments.seed(1)
    raw = data()
    plain = (raw['inputs'] - torch.tensor(MEAN)[:, None, None]) / (torch.tensor(STD)[:, None, None])
    batch = preprocessor(copy.deepcopy(raw), training=True)
    assert batch.keys() == {'inputs', 'data_samples', 'mix'}
    record = batch['mix']
    preprocessor.batch_augments.seed(1)
    drawn = preprocessor.batch_augments.draw(plain)
    for name in ('partner', 'token_share', 'lam'):
        assert torch.equal(getattr(record, name), getattr(drawn, name))
    assert 0 < record.lam[0] < 1, 'a draw that mixes nothing tests nothing'
    for i, sample in enumerate(batch['data_samples']):
        j = 3 - i
        assert record.partner[i] == j
        own = record.token_share[i].repeat_interleave(4, 0)
        own = own.repeat_interleave(4, 1)
        torch.testing.assert_close(batch['inputs'][i], own * plain[i] + (1 - own) * plain[j])
        assert sample.gt_score.tolist() == np.eye(5)[i].tolist()
        assert set(sample.keys()) == {'gt_label', 'gt_score'}
        lam = record.token_share[i].mean().item()
        assert record.lam[i].item() == pytest.approx(lam)


def test_a_classifier_that_would_not_take_the_record_is_refused():
    cfg = config()
    cfg.update(
        type='ImageClassifier',
        head=dict(cfg['head'], type='VisionTransformerClsHead'),
        data_preprocessor=dict(cfg['data_preprocessor'], type='mmtlalign.TLAlignDataPreprocessor'),
    )
    stock = MODELS.build(cfg)
    with pytest.raises(
        TypeError, match="set the model's type to 'mmtlalign.TLAlignClassifier'"
    ) as error:
        stock.train_step(data(), OptimWrapper(torch.optim.SGD(stock.parameters(), lr=0.1)))
    assert '\n' not in str(error.value)
    assert len(stock.test_step(data())) == 4, 'it may be tested'


def test_preprocessor_at_test_time_is_the_host():
    ours = build().data_preprocessor
    stock = ClsDataPreprocessor(mean=MEAN, std=STD, num_classes=5, to_onehot=True)
    raw = data()
    got, expected = ours(copy.deepcopy(raw)), stock(copy.deepcopy(raw))
    assert torch.equal(got['inputs'], expected['inputs'])
    assert set(got['data_samples'][0].keys()) == set(expected['data_samples'][0].keys())


@pytest.mark.parametrize('swin', [False, True])
@pytest.mark.parametrize('loss', [SOFT_CE, BCE], ids=['ce', 'bce'])
def test_loss_is_that_of_aligned_labels(swin, loss):
    """Recomputed with a LabelTrace of its own and the loss written out."""
    model = build(swin=swin, loss=loss)
    batch = model.data_preprocessor(data(), training=True)
    images, mix = batch['inputs'], batch['mix']
    torch.manual_seed(5)  # drop path
    losses = model(**batch, mode='loss')

    trace = LabelTrace(copy.deepcopy(model.backbone))
    torch.manual_seed(5)
    with trace(mix.token_share):
        feats = trace.backbone(images)
    feats = model.neck(feats) if swin else feats
    logits = model.head(feats).detach().double().numpy()
    share = trace.output_share.double().numpy()
    total = 0
    for i in range(4):
        target = share[i] * np.eye(5)[i] + (1 - share[i]) * np.eye(5)[3 - i]
        target = target * 0.9 + 0.1 / 5
        if loss is BCE:
            prob = 1 / (1 + np.exp(-logits[i]))
            total -= np.mean(target * np.log(prob) + (1 - target) * np.log(1 - prob))
        else:
            log_prob = logits[i] - np.log(np.exp(logits[i]).sum())
            total -= (target * log_prob).sum()
    assert losses['loss'].item() == pytest.approx(total / 4, rel=1e-5)
    lam = mix.lam[0].item()
    assert losses['lam'].item() == pytest.approx(lam)
    assert losses['aligned_share'].item() == pytest.approx(share.mean())
    assert losses['token_fluctuation'].item() == pytest.approx(np.abs(share - lam).mean(), rel=1e-4)
    assert losses['token_fluctuation'].item() > 1e-4
    losses['loss'].backward()
    assert not any(v.requires_grad for k, v in losses.items() if k != 'loss')


def test_area_target_trains_on_area_labels_without_a_trace():
    aligned, baseline = build(), build(target=AREA)
    monitored = build(target=dict(AREA, monitor=True))
    assert baseline.trace is None
    batch = aligned.data_preprocessor(data(), training=True)
    stock = ImageClassifier(
        config()['backbone'],
        head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=16, loss=SOFT_CE),
    )
    for model in (aligned, monitored, stock):
        model.load_state_dict(baseline.state_dict(), strict=True)
    results = {}
    for name, model in dict(aligned=aligned, baseline=baseline, monitored=monitored).items():
        torch.manual_seed(5)
        losses = model(**batch, mode='loss')
        losses['loss'].backward()
        results[name] = losses, model.head.layers.head.weight.grad
    lam = batch['mix'].lam[0]
    samples = [
        DataSample().set_gt_score(lam * torch.eye(5)[i] + (1 - lam) * torch.eye(5)[3 - i])
        for i in range(4)
    ]
    torch.manual_seed(5)
    host = stock(batch['inputs'], samples, mode='loss')
    host['loss'].backward()
    for name in ('baseline', 'monitored'):
        losses, grad = results[name]
        assert losses['loss'].item() == pytest.approx(host['loss'].item())
        torch.testing.assert_close(grad, stock.head.layers.head.weight.grad)
    assert abs(results['aligned'][0]['loss'] - host['loss']) > 1e-4
    assert 'aligned_share' not in results['baseline'][0]
    assert results['monitored'][0]['aligned_share'].item() == pytest.approx(
        results['aligned'][0]['aligned_share'].item()
    )


def test_unmixed_batches_need_no_special_case():
    never = dict(TOKEN_CUTMIX, probs=[0.0])
    model = build(train_cfg=never)
    batch = model.data_preprocessor(data(), training=True)
    losses = model(**batch, mode='loss')
    assert losses['lam'] == 1 and losses['aligned_share'].item() == (pytest.approx(1))
    nothing = build(train_cfg=None)
    batch = nothing.data_preprocessor(data(), training=True)
    assert 'mix' not in batch
    assert set(nothing(**batch, mode='loss')) == {'loss'}


@pytest.mark.parametrize('loss', [SOFT_CE, BCE], ids=['ce', 'bce'])
def test_no_mixing_is_one_thing_however_it_is_written(loss):
    never, none = build(loss=loss), build(loss=loss, train_cfg=None)
    none.load_state_dict(never.state_dict())
    never.data_preprocessor.batch_augments.probs = [0.0]
    raw, losses = data(), []
    for model in never.eval(), none.eval():
        batch = model.data_preprocessor(copy.deepcopy(raw), training=True)
        losses.append(model.loss(**batch)['loss'].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize('swin', [False, True])
def test_checkpoint_and_prediction_are_the_hosts(swin):
    model = build(swin=swin).eval()
    cfg = config(swin=swin)
    stock = ImageClassifier(
        cfg['backbone'],
        neck=cfg['neck'],
        head={**cfg['head'], 'type': cfg['head']['type'].replace('mmtlalign.TLAlign', '')},
        data_preprocessor=dict(num_classes=5, mean=MEAN, std=STD),
    ).eval()
    stock.load_state_dict(model.state_dict(), strict=True)
    batch = data()
    ours = model.test_step(copy.deepcopy(batch))
    host = stock.test_step(copy.deepcopy(batch))
    for a, b in zip(ours, host):
        assert torch.equal(a.pred_score, b.pred_score)
        assert torch.equal(a.pred_label, b.pred_label)


@pytest.mark.parametrize(
    'copied',
    [
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: ExponentialMovingAverage(m).module,
    ],
    ids=['deepcopy', 'pickle', 'ema'],
)
def test_copies_trace_their_own_backbone(copied):
    model = build()
    clone = copied(model)
    assert clone.trace.backbone is clone.backbone is not model.backbone
    batch = clone.data_preprocessor(data(), training=True)
    clone(**batch, mode='loss')
    assert clone.trace.output_share.shape == (4,)
    with pytest.raises(RuntimeError):
        model.trace.output_share


def test_soft_labels_may_come_with_the_data():
    model = build()
    batch = data()
    scores = torch.rand(4, 5).softmax(1)
    batch['data_samples'] = [DataSample().set_gt_score(score) for score in scores]
    batch = model.data_preprocessor(batch, training=True)
    for sample, score in zip(batch['data_samples'], scores):
        torch.testing.assert_close(sample.gt_score, score)
    torch.manual_seed(5)
    loss = model.loss(**batch)['loss']
    torch.manual_seed(5)
    with model.trace(batch['mix'].token_share):
        logits = model(batch['inputs'])
    share = model.trace.output_share[:, None]
    target = 0.9 * (share * scores + (1 - share) * scores.flip(0)) + 0.1 / 5
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def with_samples(*samples):
    return dict(inputs=torch.rand(len(samples), 3, 16, 16), data_samples=list(samples))


@pytest.mark.parametrize(
    'batch, message',
    [
        (
            with_samples(DataSample().set_gt_label(1), DataSample().set_gt_label([1, 3])),
            r'Sample 1 .*\[1, 3\]',
        ),
        (with_samples(DataSample()), r'Sample 0 has labels \[\]'),
        (with_samples(MultiTaskDataSample()), 'MultiTaskDataSample'),
        (dict(inputs=torch.rand(1, 3, 16, 16)), 'NoneType'),
    ],
)
def test_samples_without_one_label_are_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        build().data_preprocessor(batch, training=True)


@pytest.mark.parametrize('missing', ['num_classes', 'mean'])
def test_preprocessor_settings_must_not_get_lost(missing):
    cfg = config()
    del cfg['data_preprocessor'][missing]
    with pytest.raises(ValueError, match=f'`{missing}`.*top level'):
        MODELS.build(cfg)


@pytest.mark.parametrize(
    'change, error, message',
    [
        (dict(loss=dict(SOFT_CE, mode='multi_label')), ValueError, 'multi_label'),
        (
            dict(data_preprocessor=dict(type='ClsDataPreprocessor')),
            TypeError,
            'ClsDataPreprocessor leaves no record',
        ),
        (dict(backbone=dict(type='ResNet', depth=18)), TypeError, 'ResNet'),
        (
            dict(backbone=dict(type='DistilledVisionTransformer')),
            TypeError,
            'DistilledVisionTransformer outputs two tokens.*DeiTClsHead',
        ),
    ],
)
def test_bad_settings(change, error, message):
    with pytest.raises(error, match=message) as info:
        build(**change)
    assert '\n' not in str(info.value)


def test_accuracy_on_mixed_labels_is_refused():
    cfg = config()
    cfg['head']['cal_acc'] = True
    with pytest.raises(ValueError, match='cal_acc'):
        MODELS.build(cfg)


def test_images_of_another_size_are_refused_with_both_numbers():
    model = build()
    with pytest.raises(ValueError, match='18x18 .*patch_size=4'):
        model.data_preprocessor(data(size=18), training=True)
