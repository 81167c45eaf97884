"""Mixing of label maps, pixel by pixel, and labels that follow the tokens."""

import copy
from functools import partial

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from torch.nn.functional import interpolate, logsigmoid

from tests.conftest import needs_operators
from tests.oracle import dense_labels
from tests.test_models import test_tlalign
from tests.test_models.test_tlalign import MEAN, STD, TOKEN_CUTMIX, mixing

needs_operators()

from mmseg.structures import SegDataSample  # noqa: E402

from mmtlalign.models import MixSegDataPreProcessor  # noqa: E402
from mmtlalign.models.segmentation.tlalign_encoder_decoder import mixed_losses  # noqa

CLASSES, IGNORED = 4, 255
CE = dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True)
BINARY = dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True)


def data(sizes=((16, 16),) * 4, edges=False):
    """Images and label maps, a sixth of which is to be ignored."""
    generator = torch.Generator().manual_seed(3)
    inputs, samples = [], []
    for size in sizes:
        inputs.append(torch.rand(3, *size, generator=generator) * 60)
        labels = torch.randint(CLASSES, (1, *size), generator=generator)
        labels[torch.rand(1, *size, generator=generator) < 1 / 6] = IGNORED
        sample = SegDataSample(
            gt_sem_seg=PixelData(data=labels), metainfo=dict(ori_shape=size, img_shape=size)
        )
        if edges:
            sample.gt_edge_map = PixelData(data=labels % 2)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def preprocessor(batch_augments=mixing('CutMix'), size_divisor=4):
    sizes = dict(mean=MEAN, std=STD, size_divisor=size_divisor)
    made = MixSegDataPreProcessor(batch_augments=batch_augments, **sizes)
    if made.mixing is not None:
        made.mixing.seed(1)
    return made


@pytest.mark.parametrize('kind', ['CutMix', 'MaskMix'])
def test_every_pixel_comes_with_its_label(kind):
    """Also where images were padded; one mask per batch, or one per sample."""
    raw = data(sizes=((16, 12), (13, 16), (10, 9), (16, 16)), edges=True)
    made = preprocessor(mixing(kind))
    batch = made(copy.deepcopy(raw), training=True)
    assert batch.keys() == {'inputs', 'data_samples'}
    made.mixing.seed(1)
    record = made.mixing.draw(torch.zeros(4, 3, 16, 16))
    assert 0 < record.lam[0] < 1
    kept, partner = made.mixing.pixels(record)[:, None] > 0, record.partner
    unmixed = preprocessor(None)(raw, training=True)
    own = unmixed['inputs']
    torch.testing.assert_close(batch['inputs'], torch.where(kept, own, own[partner]))
    for name in ('gt_sem_seg', 'gt_edge_map'):
        own, found = (
            torch.stack([sample.get(name).data for sample in each['data_samples']])
            for each in (unmixed, batch)
        )
        assert torch.equal(found, torch.where(kept, own, own[partner]))


def test_blended_pixels_have_no_class():
    with pytest.raises(ValueError, match='one class a pixel; .*CutMix'):
        preprocessor(mixing('Mixup'))(data(), training=True)
    with pytest.raises(ValueError, match='patch_size=4'):
        preprocessor(size_divisor=3)(data(sizes=((15, 15),) * 2), True)


# Labels that follow the tokens


def config(swin=False, loss=CE, aux=0, batch_augments=TOKEN_CUTMIX, **kwargs):
    backbone = dict(test_tlalign.config(swin)['backbone'], drop_path_rate=0.0)
    backbone.update(_scope_='mmpretrain', out_indices=(0, 1))
    if swin:
        batch_augments = mixing('TokenCutMix', 2)
    else:
        backbone.update(out_type='featmap')
    layers = dict(channels=8, num_convs=1, concat_input=False, dropout_ratio=0.0, norm_cfg=None)
    fitted = dict(num_classes=CLASSES, align_corners=False, loss_decode=loss)
    head = dict(type='mmseg.FCNHead', in_index=1, in_channels=16, **layers, **fitted)
    auxiliary = [dict(head, in_index=0, in_channels=8 if swin else 16) for _ in range(aux)]
    preprocess = dict(mean=MEAN, std=STD, size_divisor=4, batch_augments=batch_augments)
    return (
        dict(
            type='mmtlalign.TLAlignEncoderDecoder',
            backbone=backbone,
            decode_head=head,
            auxiliary_head=auxiliary[0] if aux == 1 else auxiliary or None,
            train_cfg=dict(),
            test_cfg=ConfigDict(mode='whole'),
            data_preprocessor=dict(preprocess, type='mmtlalign.MixSegDataPreProcessor'),
        )
        | kwargs
    )


def build(**kwargs):
    torch.manual_seed(0)
    model = MODELS.build(config(**kwargs))
    torch.manual_seed(1)
    for param in model.parameters():
        if param.ndim > 1:
            torch.nn.init.normal_(param, std=0.3)
    if model.data_preprocessor.mixing is not None:
        model.data_preprocessor.mixing.seed(1)
    return model


def mixed(model):
    return model.data_preprocessor(data(), training=True)


def oracle_share(model, batch):
    """(B, rows, cols) of the last block: own image against its partner, one
    number for each of the two from the start."""
    mix = batch['mix']
    own = mix.token_share[..., None].double()
    blocks, _ = dense_labels(model.backbone, batch['inputs'], torch.cat((own, 1 - own), -1))
    extra = getattr(model.backbone, 'num_extra_tokens', 0)
    return blocks[-1][:, extra:, 0].unflatten(1, (4, 4))


def target_of(samples, partner, share):
    """Soft labels (B, K, H, W) of a share (B, 1, H, W), and how many pixels are labelled."""
    maps = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    own = torch.stack([maps == k for k in range(CLASSES)], 1).double()
    return share * own + (1 - share) * own[partner], (maps != IGNORED).sum().item()


def by_hand(scores, target, count, binary):
    if not binary:
        return -(target * scores.log_softmax(1)).sum() / count
    rest = target.sum(1, keepdim=True) - target
    return -(target * logsigmoid(scores) + rest * logsigmoid(-scores)).mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    'swin, loss, target',
    [
        (False, CE, 'AlignedTokenTarget'),
        (True, CE, 'AlignedTokenTarget'),
        (False, BINARY, 'AlignedTokenTarget'),
        (False, CE, 'AreaTarget'),  # which only softens the seams
    ],
    ids=['vit', 'swin', 'binary', 'area'],
)
def test_loss_is_that_of_dense_labels(swin, loss, target):
    model = build(swin=swin, loss=loss, aux=1, target=dict(type=f'mmtlalign.{target}'))
    batch = mixed(model)
    mix, samples = batch['mix'], batch['data_samples']
    assert 0 < mix.lam[0] < 1
    for sample, raw in zip(samples, data()['data_samples']):
        assert torch.equal(sample.gt_sem_seg.data, raw.gt_sem_seg.data), 'own labels stay'
    found = model.loss(**batch)
    share = mix.token_share.double()
    if model.trace is None:
        assert found['token_fluctuation'] == 0
    else:
        share = oracle_share(model, batch)
        moved = model.trace.output_token_share.double()
        torch.testing.assert_close(moved, share, atol=2e-6, rtol=0)
        assert found['token_fluctuation'] > 1e-2
    enlarge = partial(interpolate, size=(16, 16), mode='bilinear')
    target, count = target_of(samples, mix.partner, enlarge(share[:, None]))
    maps = model.extract_feat(batch['inputs'])
    for prefix, head in (('decode', model.decode_head), ('aux', model.auxiliary_head)):
        expected = by_hand(enlarge(head(maps).double()), target, count, loss is BINARY)
        assert found[f'{prefix}.loss_ce'].item() == pytest.approx(expected.item(), rel=1e-5)
    assert 0 < found['decode.acc_seg'] < 100
    assert found['aligned_share'].item() == pytest.approx(share.mean().item(), abs=1e-5)
    found['decode.loss_ce'].backward()
    assert model.backbone.patch_embed.projection.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    'loss',
    [
        CE,
        dict(type='mmseg.CrossEntropyLoss'),
        dict(type='mmseg.CrossEntropyLoss', class_weight=[0.1, 1.0, 2.0, 3.0]),
        BINARY,
    ],
    ids=['labelled', 'all', 'class weights', 'binary'],
)
def test_where_tokens_are_pixels_it_is_cutmix(loss):
    """Hard shares give the host's loss on pasted label maps."""
    model = build(loss=loss)
    head = model.decode_head
    scores = torch.randn(4, CLASSES, 4, 4)
    own = data()['data_samples']
    made = preprocessor()
    pasted = made(data(), training=True)['data_samples']
    made.mixing.seed(1)
    mix = made.mixing.draw(torch.zeros(4, 3, 16, 16))
    expected = head.loss_by_feat(scores, pasted)
    found = mixed_losses(head, scores, own, mix, mix.pixel_share.expand(4, -1, -1))
    torch.testing.assert_close(found, expected)


def test_several_heads_and_losses():
    two = [CE, dict(CE, loss_name='loss_twice', loss_weight=2.0)]
    model = build(aux=2, loss=two)
    losses = model.loss(**mixed(model))
    heads, names = ('decode', 'aux_0', 'aux_1'), ('loss_ce', 'loss_twice')
    assert {key for key in losses if 'loss' in key} == {
        f'{head}.{name}' for head in heads for name in names
    }
    for head in heads:
        torch.testing.assert_close(losses[f'{head}.loss_twice'], 2 * losses[f'{head}.loss_ce'])
    same, once = (
        model.loss(**mixed(model))['decode.loss_ce'] for model in (build(loss=[CE, CE]), build())
    )
    torch.testing.assert_close(same, 2 * once)


def test_unmixed_batches_predictions_and_weights_are_the_hosts():
    stock = dict(type='mmseg.SegDataPreProcessor', mean=MEAN, std=STD, size_divisor=4)
    stock = MODELS.build(config(type='mmseg.EncoderDecoder', data_preprocessor=stock))
    for batch_augments in (TOKEN_CUTMIX, None, dict(TOKEN_CUTMIX, probs=[0.0])):
        model = build(batch_augments=batch_augments)
        stock.load_state_dict(model.state_dict(), strict=True)
        if batch_augments is not TOKEN_CUTMIX:
            found, expected = (m.train().loss(**mixed(m)) for m in (model, stock))
            torch.testing.assert_close({key: found[key] for key in expected}, expected)
        raw = data(sizes=((13, 16),))
        with torch.no_grad():
            ours, theirs = (m.eval().test_step(copy.deepcopy(raw))[0] for m in (model, stock))
        assert torch.equal(ours.seg_logits.data, theirs.seg_logits.data)
        assert torch.equal(ours.gt_sem_seg.data, theirs.gt_sem_seg.data)


def test_blending_is_trained_on_both_labels():
    model = build(batch_augments=mixing('Mixup'))
    batch = mixed(model)
    found = model.loss(**batch)
    torch.testing.assert_close(found['aligned_share'], batch['mix'].lam[0])
    assert found['token_fluctuation'] < 1e-5


STOCK = dict(type='mmseg.SegDataPreProcessor', size_divisor=4)
ALIGNED = dict(type='mmtlalign.AlignedTarget')
SAMPLER = dict(type='mmseg.OHEMPixelSampler', thresh=0.7)
SAMPLING = dict(config()['decode_head'], sampler=SAMPLER)
ENC_HEAD = dict(type='mmseg.EncHead', num_codes=4, in_index=[0, 1], in_channels=[16, 16])
ENC_HEAD.update(channels=8, num_classes=CLASSES, norm_cfg=None)


@pytest.mark.parametrize(
    'change, error, message',
    [
        (dict(data_preprocessor=STOCK), TypeError, "type to 'mmtlalign.MixSegDataPreProcessor'"),
        (dict(loss=dict(type='mmseg.DiceLoss')), ValueError, 'DiceLoss of FCNHead is not linear'),
        (dict(target=ALIGNED), TypeError, 'AlignedTarget weighs images, .*AlignedTokenTarget'),
        (dict(decode_head=SAMPLING), ValueError, 'OHEMPixelSampler of FCNHead .* `sampler`'),
        (dict(decode_head=ENC_HEAD), TypeError, 'EncHead brings its own `loss_by_feat`'),
    ],
    ids=['preprocessor', 'loss', 'target', 'sampler', 'head'],
)
def test_what_cannot_be_trained(change, error, message):
    with pytest.raises(error, match=message) as info:
        build(**change)
    assert '\n' not in str(info.value)
