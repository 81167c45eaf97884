"""MixToken, token labels and their head: a training step, end to end."""

from functools import partial

import numpy as np
import pytest
import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch.utils.checkpoint import checkpoint

from mmtlalign.alignment import LabelTrace
from mmtlalign.datasets import TokenLabels
from mmtlalign.models import MixRecord, MixToken, put_back_tokens, swap_tokens
from mmtlalign.models.data_preprocessors.token_scores import crop_scores, expand_maps

from . import test_tlalign
from .test_tlalign import MIX_TOKEN, SOFT_CE

UNMIXED = dict(MIX_TOKEN, probs=[0.0])
WITHOUT_LABELS = dict(dense_weight=0.0, cls_target='ground_truth')
CLASSES = 5
PREPROCESS = dict(num_classes=CLASSES, mean=[0.0] * 3, std=[1.0] * 3)
SIZES = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
VIT = dict(type='VisionTransformer', img_size=16, patch_size=4, out_type='raw', arch=SIZES)
LVVIT = dict(VIT, type='mmtlalign.LVViT', arch=dict(SIZES, stem_channels=8, skip_lam=2.0))


def config(**kwargs):
    head = dict(type='mmtlalign.TokenLabelHead', num_classes=CLASSES, in_channels=16, loss=SOFT_CE)
    return dict(
        type='mmtlalign.TokenLabelClassifier',
        backbone=dict(LVVIT),
        head=head,
        data_preprocessor=dict(PREPROCESS),
        train_cfg=MIX_TOKEN,
        **kwargs,
    )


def build(head=None, **kwargs):
    """The model, for testing, with weights that make a difference."""
    cfg = {**config(), **kwargs}
    cfg['head'].update(head or {})
    model = MODELS.build(cfg)
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        if p.ndim > 1:
            p.data.normal_(0, 0.3, generator=generator)
    return model.eval()


def random_labels(
    cols=6, k=2, size=(16, 16), mode='probs', seed=0, num_classes=CLASSES, flip=False, box=None
):
    """A random map of 6 rows whose box is a part of it."""
    rng = np.random.default_rng(seed)
    ids = np.argsort(rng.random((6, cols, num_classes)), -1)[..., :k].astype(np.int16)
    scores = rng.dirichlet(np.ones(k + 1), (6, cols))[..., :k].astype(np.float16)
    box = np.array(box or [0.7, 1.3, 4.2, 5.9], np.float32)
    return TokenLabels(ids, scores, box, size, num_classes, mode, flip=flip)


def data(labelled=True, **kwargs):
    generator = torch.Generator().manual_seed(2)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    for i, sample in enumerate(samples if labelled else []):
        sample.token_labels = random_labels(seed=i, **kwargs)
    return dict(inputs=torch.randn(4, 3, 16, 16, generator=generator), data_samples=samples)


def mixed(model, raw, seed=3):
    if model.data_preprocessor.batch_augments is not None:
        model.data_preprocessor.batch_augments.seed(seed)
    return model.data_preprocessor(raw, training=True)


def loss_of(model, raw):
    return model.loss(**mixed(model, raw))


def dense(labels):
    """The map of one image written out, (rows, cols, K), in a loop."""
    rows, cols, k = labels.ids.shape
    out = np.zeros((rows, cols, labels.num_classes))
    for row, col in np.ndindex(rows, cols):
        scores = labels.scores[row, col].astype(float)
        if labels.score_mode == 'probs':
            if k < labels.num_classes:
                out[row, col] = (1 - scores.sum()) / (labels.num_classes - k)
            else:
                scores /= scores.sum()
        out[row, col, labels.ids[row, col]] = scores
    return out


def sampled(labels, grid):
    """RoIAlign by an explicit loop over its sample points, (N, K)."""
    maps, (x1, y1, x2, y2) = dense(labels), labels.box.astype(float)
    height, width = (y2 - y1) / grid[0], (x2 - x1) / grid[1]
    ny, nx = int(np.ceil(height)), int(np.ceil(width))
    out = []
    for i, j in np.ndindex(*grid):
        total = 0
        for v, u in np.ndindex(ny, nx):
            y = y1 + (i + (v + 0.5) / ny) * height - 0.5
            x = x1 + (j + (u + 0.5) / nx) * width - 0.5
            total = total + bilinear(maps, y, x)
        out.append(total / (ny * nx))
    return np.array(out)


def bilinear(maps, y, x):
    rows, cols = maps.shape[:2]
    y, x = min(max(y, 0), rows - 1), min(max(x, 0), cols - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, cols - 1)
    v, u = y - top, x - left
    return (1 - v) * ((1 - u) * maps[top, left] + u * maps[top, right]) + v * (
        (1 - u) * maps[bottom, left] + u * maps[bottom, right]
    )


def targets(labels, grid=(4, 4)):
    cells = sampled(labels, grid)
    if labels.score_mode == 'probs':
        return cells
    odds = np.exp(cells - cells.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


# From maps to the scores of tokens


def scores_in(labels, box, grid):
    """Of one image, (N, K)."""
    ids, scores = (torch.from_numpy(part[None]) for part in (labels.ids, labels.scores))
    maps = expand_maps(ids, scores, CLASSES, labels.score_mode)
    return crop_scores(maps, torch.tensor([box]), grid, labels.score_mode)[0]


@pytest.mark.parametrize('mode', ['probs', 'logits'])
@pytest.mark.parametrize('k', [1, 2, CLASSES])
def test_scores_of_tokens(mode, k):
    for box in (0, 0, 7.0, 6), (0.7, 1.3, 4.2, 5.9), (2.1, 0, 2.4, 6), (0, 3.0, 7, 3.2):
        labels = random_labels(cols=7, k=k, mode=mode, box=box)
        for grid in (4, 4), (3, 5), (1, 1):
            found = scores_in(labels, box, grid)
            np.testing.assert_allclose(found, targets(labels, grid), atol=1e-5)
            np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    if mode == 'probs':  # the whole map on its own grid is the map itself
        found = scores_in(labels, (0, 0, 7.0, 6), (6, 7))
        np.testing.assert_allclose(found.view(6, 7, CLASSES), dense(labels), atol=1e-6)


@pytest.mark.parametrize('mode', ['probs', 'logits'])
def test_outside_the_map_scores_are_even(mode):
    found = scores_in(random_labels(mode=mode), (-12.0, 0, 20, 6), (1, 4))
    np.testing.assert_allclose(found[[0, 3]], 1 / CLASSES, atol=1e-6)
    assert (found[1] - 1 / CLASSES).abs().max() > 0.001


# MixToken


@pytest.mark.parametrize('partner', ['reverse', 'random'])
def test_swapped_tokens_against_a_loop_and_back(partner):
    mix = MixToken(patch_size=4, partner=partner)
    mix.seed(1)
    tokens = torch.randn(5, 12, 3)
    moved = 0
    for _ in range(10):
        record = mix.draw(torch.zeros(5, 3, 12, 16))
        swapped = swap_tokens(tokens, record.token_share, record.partner)
        for i, n in np.ndindex(5, 12):
            inside = record.token_share[i, n // 4, n % 4] == 0
            source = record.partner[i] if inside else i
            assert torch.equal(swapped[i, n], tokens[source, n])
            moved += inside
        assert torch.equal(put_back_tokens(swapped, record.token_share, record.partner), tokens)
    assert moved > 50


def test_images_cannot_be_mixed_by_it():
    message = 'MixToken mixes tokens .*mmtlalign.TokenLabelClassifier'
    stock = ClsDataPreprocessor(num_classes=CLASSES, batch_augments=MIX_TOKEN)
    with pytest.raises(TypeError, match=message):
        stock(data(labelled=False), training=True)


# One training step


def soft_ce(logits, target):
    return -((0.9 * target + 0.1 / CLASSES) * logits.log_softmax(-1)).sum(-1)


def own_target(kind, labels, i):
    machine = torch.from_numpy(targets(labels, (1, 1))[0]).float()
    truth = torch.eye(CLASSES)[i]
    agree = machine.argmax() == truth.argmax()
    weight = dict(machine=1, ground_truth=0, blend=0.5 if agree else 0.9)[kind]
    return weight * machine + (1 - weight) * truth


@pytest.mark.parametrize(
    'partner, target, cls_target, dense_weight, backbone, kind',
    [
        ('reverse', 'AreaTarget', 'machine', 1.0, VIT, 'TLAlignClassifier'),
        ('random', 'AreaTarget', 'ground_truth', 0.5, LVVIT, 'TokenLabelClassifier'),
        ('random', 'AlignedTarget', 'blend', 1.0, LVVIT, 'TokenLabelClassifier'),
    ],
)
def test_losses_by_hand(partner, target, cls_target, dense_weight, backbone, kind):
    """Tokens are swapped whatever the classifier."""
    model = build(
        type=f'mmtlalign.{kind}',
        data_preprocessor=dict(PREPROCESS, type='mmtlalign.TokenLabelDataPreprocessor'),
        head=dict(cls_target=cls_target, dense_weight=dense_weight),
        backbone=backbone,
        target=dict(type=f'mmtlalign.{target}'),
        train_cfg=dict(augments=[dict(MIX_TOKEN['augments'][0], partner=partner)]),
    )
    raw = data()
    labels = [sample.token_labels for sample in raw['data_samples']]
    batch = mixed(model, raw)
    record = batch['mix']
    assert torch.equal(batch['inputs'], data()['inputs']), 'images stay'
    losses = model.loss(**batch)

    share = record.token_share.flatten(1)
    assert 0 < share.mean() < 1
    partners = record.partner.tolist()
    # tokens mixed by hand, in the middle of a plain forward
    backbone = model.backbone
    tokens, _ = backbone.patch_embed(batch['inputs'])
    swapped = tokens.clone()
    for i, j in enumerate(partners):
        swapped[i, share[i] == 0] = tokens[j, share[i] == 0]
    x = torch.cat((backbone.cls_token.expand(4, -1, -1), swapped), 1)
    x = x + backbone.pos_embed
    for layer in backbone.layers:
        x = layer(x)
    x = backbone.ln1(x)

    weight = share.mean(1)
    if target == 'AlignedTarget':
        trace = LabelTrace(backbone)
        with model.mixed_tokens(record), trace(record.token_share):
            backbone(batch['inputs'])
        weight = trace.output_share
        assert losses['aligned_share'].item() == pytest.approx(weight.mean().item())
    own = [own_target(cls_target, labels[i], i) for i in range(4)]
    maps = [torch.from_numpy(targets(label)).float() for label in labels]
    cls_loss, dense_loss = [], []
    for i, j in enumerate(partners):
        label = weight[i] * own[i] + (1 - weight[i]) * own[j]
        cls_loss.append(soft_ce(model.head.layers.head(x[i, 0]), label))
        for n in range(16):
            source = i if share[i, n] else j
            dense_loss.append(soft_ce(model.head.aux_head(x[i, 1 + n]), maps[source][n]))
    cls_loss, dense_loss = (sum(values) / len(values) for values in (cls_loss, dense_loss))
    torch.testing.assert_close(losses['loss_cls'], cls_loss)
    torch.testing.assert_close(losses['loss_dense'], dense_weight * dense_loss)
    (losses['loss_cls'] + losses['loss_dense']).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_targets_of_mixed_images_are_mixed_token_by_token():
    model = build(train_cfg=dict(augments=[dict(type='mmtlalign.CutMix', patch_size=4)]))
    raw = data()
    maps = [targets(sample.token_labels) for sample in raw['data_samples']]
    batch = mixed(model, raw)
    record, x = batch['mix'], model.backbone(batch['inputs'])[0]
    assert not record.in_backbone
    expected = 0
    for i, sample in enumerate(batch['data_samples']):
        np.testing.assert_allclose(sample.gt_token_score, maps[i], atol=1e-5)
        share = record.token_share[i].flatten()[:, None].numpy()
        target = torch.from_numpy(share * maps[i] + (1 - share) * maps[3 - i])
        expected += soft_ce(model.head.aux_head(x[i, 1:]).double(), target).mean().item() / 4
    assert model.loss(**batch)['loss_dense'].item() == pytest.approx(expected, rel=1e-5)


def test_prediction():
    model = build()
    inputs = data()['inputs']
    with torch.no_grad():
        (x,) = model.backbone(inputs)
        head = model.head
        expected = head.layers.head(x[:, 0]) + 0.5 * head.aux_head(x[:, 1:]).max(1).values
        found = model.predict(inputs)
    for sample, score in zip(found, expected):
        torch.testing.assert_close(sample.pred_score, score.softmax(-1))
    head.dense_weight = 0.0
    with torch.no_grad():
        torch.testing.assert_close(head((x,)), head.layers.head(x[:, 0]))


def test_without_token_labels():
    """MixToken alone: on the data set's labels. DDP waits for no gradient of patch tokens."""
    model = build(head=WITHOUT_LABELS)
    losses = loss_of(model, data(labelled=False))
    assert 'loss_dense' not in losses and losses['loss_cls'] > 0
    losses['loss_cls'].backward()
    assert all(p.grad is not None for p in model.head.parameters() if p.requires_grad)
    with pytest.raises(ValueError, match='LoadTokenLabels'):
        loss_of(build(), data(labelled=False))


@pytest.mark.parametrize('reentrant', [True, False])
def test_checkpointing_blocks_and_not_the_backbone(reentrant):
    """Gradients stay, or the training is refused."""

    def gradients(model):
        model.zero_grad()
        loss_of(model, data())['loss_dense'].backward()
        return [p.grad for p in model.backbone.parameters()]

    def repeat(module):
        module.forward = partial(checkpoint, module.forward, use_reentrant=reentrant)

    model = build()
    expected = gradients(model)
    repeat(model.backbone.layers[1])
    if not reentrant:  # which wants inputs that have gradients
        repeat(model.backbone.patch_embed)
    for got, wanted in zip(gradients(model), expected):
        torch.testing.assert_close(got, wanted)
    model = build()
    repeat(model.backbone)
    with pytest.raises(RuntimeError, match='checkpoint its blocks instead'):
        gradients(model)
    with torch.no_grad():
        assert loss_of(model, data())['loss_dense'] > 0


def test_swin_mixes_tokens_with_a_plain_head():
    mix = dict(augments=[dict(type='mmtlalign.MixToken', patch_size=2)])
    model = test_tlalign.build(swin=True, type='mmtlalign.TokenLabelClassifier', train_cfg=mix)
    assert torch.isfinite(loss_of(model, data(labelled=False))['loss'])


# The swap lasts for one training forward


def swap_of_two(share):
    shares = torch.full((2, 4, 4), share)
    return MixRecord(torch.tensor([1, 0]), shares, shares.mean((1, 2)), in_backbone=True)


def test_backbone_is_left_as_it_was():
    model = build()
    patch_embed = model.backbone.patch_embed
    with pytest.raises(ZeroDivisionError):
        with model.mixed_tokens(swap_of_two(share=1.0)):
            assert 'forward' in vars(patch_embed)
            1 / 0
    assert 'forward' not in vars(patch_embed)


# Refusals


@pytest.mark.parametrize(
    'change, raw, error, message',
    [
        ({}, dict(num_classes=6), ValueError, 'for 6 classes, the data preprocessor for 5'),
        ({}, dict(size=(20, 16)), ValueError, r'\(20, 16\) pixels.*now \(16, 16\)'),
        ({}, dict(flip=True), ValueError, 'flip=True, but it is now .*flip=False'),
        (dict(head=dict(cls_target='teacher')), {}, ValueError, "'teacher'.*machine"),
        (dict(head=dict(dense_weight=-1.0)), {}, ValueError, 'dense_weight=-1.0'),
        (dict(train_cfg=None), {}, ValueError, r'train_cfg.*probs=\[0.\]'),
        (
            dict(backbone=dict(type='ResNet', depth=18)),
            {},
            TypeError,
            'backbone is a ResNet of mmpretrain; label alignment knows',
        ),
        (
            dict(backbone=dict(VIT, type='DistilledVisionTransformer')),
            {},
            TypeError,
            'puts 2 tokens before',
        ),
        (dict(backbone=dict(VIT, with_cls_token=False)), {}, TypeError, 'puts 0 tokens before'),
        (
            dict(backbone=dict(LVVIT, out_type='cls_token')),
            {},
            ValueError,
            "out_type of the backbone to 'raw'",
        ),
        (
            dict(train_cfg=dict(augments=[dict(type='mmtlalign.MixToken', patch_size=8)])),
            {},
            ValueError,
            r'\(4, 2, 2\), but patch_embed gave \(4, 4, 4\)',
        ),
        (
            dict(train_cfg=dict(augments=[dict(type='mmtlalign.CutMix', patch_size=8)])),
            {},
            ValueError,
            '16 patch tokens .* for 4',
        ),
    ],
)
def test_refusals(change, raw, error, message):
    with pytest.raises(error, match=message):
        loss_of(build(**change), data(**raw))
