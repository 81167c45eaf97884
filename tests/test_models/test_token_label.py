"""MixToken, token labels and their head: a training step, end to end."""

from functools import partial

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from scipy.ndimage import map_coordinates
from scipy.special import softmax
from torch.utils.checkpoint import checkpoint

from mmtlalign.alignment import LabelTrace
from mmtlalign.datasets import TokenLabels
from mmtlalign.models.data_preprocessors.token_scores import crop_scores, expand_maps

from . import test_tlalign
from .test_tlalign import MIX_TOKEN, SOFT_CE, cross_entropy, mixing

WITHOUT_LABELS = dict(dense_weight=0.0, cls_target='ground_truth')
CLASSES = 5
PREPROCESS = dict(num_classes=CLASSES, mean=[0.0] * 3, std=[1.0] * 3)
VIT = dict(test_tlalign.config()['backbone'], drop_path_rate=0.0, out_type='raw')
DISTILLED = dict(VIT, type='DistilledVisionTransformer')
LVVIT = dict(VIT, type='mmtlalign.LVViT', arch=dict(VIT['arch'], stem_channels=8, skip_lam=2.0))


def config(**kwargs):
    """The classifier of the other tests, as one of Token Labeling."""
    head = dict(type='mmtlalign.TokenLabelHead', num_classes=CLASSES, in_channels=16, loss=SOFT_CE)
    cfg = dict(backbone=dict(LVVIT), head=head, data_preprocessor=dict(PREPROCESS))
    kind = dict(type='mmtlalign.TokenLabelClassifier', train_cfg=MIX_TOKEN)
    return test_tlalign.config(**cfg, **kind, **kwargs)


def build(head=None, **kwargs):
    """The model, for testing."""
    cfg = {**config(), **kwargs}
    cfg['head'].update(head or {})
    return test_tlalign.build(**cfg).eval()


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


def loss_of(model, raw):
    return model.loss(**model.data_preprocessor(raw, training=True))


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
    """RoIAlign by its sample points, which scipy reads off the map, (N, K)."""
    x1, y1, x2, y2 = labels.box.astype(float)
    points, counts = [], []
    for low, high, cells in ((y1, y2, grid[0]), (x1, x2, grid[1])):
        counts += [cells, int(np.ceil((high - low) / cells))]  # of samples in a cell
        step = (high - low) / np.prod(counts[-2:])
        points.append(low + step * (np.arange(np.prod(counts[-2:])) + 0.5) - 0.5)
    points = np.meshgrid(*points, indexing='ij')
    found = [
        map_coordinates(scores, points, order=1, mode='nearest')
        for scores in np.moveaxis(dense(labels), -1, 0)
    ]
    return np.stack(found, -1).reshape(*counts, -1).mean((1, 3)).reshape(np.prod(grid), -1)


def targets(labels, grid=(4, 4)):
    cells = sampled(labels, grid)
    if labels.score_mode == 'probs':
        return cells
    return softmax(cells, -1)


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


# One training step


def own_target(kind, labels, i):
    machine = torch.from_numpy(targets(labels, (1, 1))[0]).float()
    truth = torch.eye(CLASSES)[i]
    agree = machine.argmax() == truth.argmax()
    weight = dict(machine=1, ground_truth=0, blend=0.5 if agree else 0.9)[kind]
    return weight * machine + (1 - weight) * truth


@pytest.mark.parametrize(
    'mix, partner, target, cls_target, dense_weight, backbone, kind',
    [
        ('MixToken', 'reverse', 'AreaTarget', 'machine', 1.0, VIT, 'TLAlignClassifier'),
        ('MixToken', 'random', 'AreaTarget', 'ground_truth', 0.5, LVVIT, 'TokenLabelClassifier'),
        ('MixToken', 'random', 'AlignedTarget', 'blend', 1.0, LVVIT, 'TokenLabelClassifier'),
        ('CutMix', 'random', 'AreaTarget', 'machine', 1.0, LVVIT, 'TokenLabelClassifier'),
    ],
)
def test_losses_by_hand(mix, partner, target, cls_target, dense_weight, backbone, kind):
    """Tokens are swapped whatever the classifier; targets of mixed images are mixed by token."""
    model = build(
        type=f'mmtlalign.{kind}',
        data_preprocessor=dict(PREPROCESS, type='mmtlalign.TokenLabelDataPreprocessor'),
        head=dict(cls_target=cls_target, dense_weight=dense_weight),
        backbone=backbone,
        target=dict(type=f'mmtlalign.{target}'),
        train_cfg=mixing(mix, 4, partner=partner),
    )
    raw = data()
    labels = [sample.token_labels for sample in raw['data_samples']]
    model.data_preprocessor.batch_augments.seed(15)
    batch = model.data_preprocessor(raw, training=True)
    record = batch['mix']
    assert record.in_backbone == (mix == 'MixToken')
    assert torch.equal(batch['inputs'], data()['inputs']) == record.in_backbone, 'images stay'
    losses = model.loss(**batch)

    share = record.token_share.flatten(1)
    assert 0 < share.mean() < 1 and (share % 1).any() == (mix == 'CutMix')
    partners = record.partner
    there_and_back = partners[partners].tolist() == [0, 1, 2, 3]
    assert there_and_back == (partner == 'reverse'), 'else one way would do for both'
    # tokens mixed by hand, in the middle of a plain forward
    own_part, backbone = share[..., None], model.backbone
    tokens, _ = backbone.patch_embed(batch['inputs'])
    if record.in_backbone:
        tokens = torch.where(own_part > 0, tokens, tokens[partners])
    x = torch.cat((backbone.cls_token.expand(4, -1, -1), tokens), 1) + backbone.pos_embed
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
    own = torch.stack([own_target(cls_target, labels[i], i) for i in range(4)])
    label = weight[:, None] * own + (1 - weight[:, None]) * own[partners]
    maps = torch.from_numpy(np.stack([targets(label) for label in labels])).float()
    cls_loss = cross_entropy(model.head.layers.head(x[:, 0]), label)
    mixed = own_part * maps + (1 - own_part) * maps[partners]
    dense_loss = dense_weight * cross_entropy(model.head.aux_head(x[:, 1:]), mixed)
    torch.testing.assert_close(losses['loss_cls'], cls_loss)
    torch.testing.assert_close(losses['loss_dense'], dense_loss)
    (losses['loss_cls'] + losses['loss_dense']).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_prediction():
    model, inputs = build(), data()['inputs']
    (x,), head = model.backbone(inputs), model.head
    alone = head.layers.head(x[:, 0])
    expected = alone + 0.5 * head.aux_head(x[:, 1:]).max(1).values
    torch.testing.assert_close(model(inputs), expected)
    head.dense_weight = 0.0
    torch.testing.assert_close(model(inputs), alone)


def test_without_token_labels():
    """MixToken alone: on the data set's labels. DDP waits for no gradient of patch tokens."""
    model = build(head=WITHOUT_LABELS)
    losses = loss_of(model, data(labelled=False))
    assert 'loss_dense' not in losses and losses['loss_cls'] > 0
    losses['loss_cls'].backward()
    assert all(p.grad is not None for p in model.head.parameters() if p.requires_grad)


@pytest.mark.parametrize('reentrant', [True, False])
def test_checkpointing_blocks_and_not_the_backbone(reentrant):
    """Gradients stay, or the training is refused."""

    def gradients(model):
        model.zero_grad()
        model.data_preprocessor.batch_augments.seed(1)
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
    assert 'forward' not in vars(model.backbone.patch_embed), 'left as it was'
    with torch.no_grad():
        assert loss_of(model, data())['loss_dense'] > 0


def test_swin_mixes_tokens_with_a_plain_head():
    kind = dict(type='mmtlalign.TokenLabelClassifier', train_cfg=mixing('MixToken', 2))
    model = test_tlalign.build(swin=True, **kind)
    assert torch.isfinite(loss_of(model, data(labelled=False))['loss'])


# Refusals


@pytest.mark.parametrize(
    'raw, message',
    [
        (dict(num_classes=6), 'for 6 classes, the data preprocessor for 5'),
        (dict(size=(20, 16)), r'\(20, 16\) pixels.*now \(16, 16\)'),
        (dict(flip=True), 'flip=True, but it is now .*flip=False'),
        (dict(labelled=False), 'LoadTokenLabels'),
    ],
)
def test_labels_that_do_not_fit(raw, message):
    with pytest.raises(ValueError, match=message):
        loss_of(build(), data(**raw))


@pytest.mark.parametrize(
    'change, error, message',
    [
        (dict(head=dict(cls_target='teacher')), ValueError, "'teacher'.*machine"),
        (dict(head=dict(dense_weight=-1.0)), ValueError, 'dense_weight=-1.0'),
        (dict(train_cfg=None), ValueError, r'train_cfg.*probs=\[0.\]'),
        (dict(backbone=dict(type='ResNet', depth=18)), TypeError, 'ResNet of mmpretrain; label'),
        (dict(backbone=DISTILLED), TypeError, 'puts 2 tokens before'),
        (dict(backbone=dict(VIT, with_cls_token=False)), TypeError, 'puts 0 tokens before'),
        (dict(train_cfg=mixing('MixToken', 8)), ValueError, r'\(4, 2, 2\), but .* \(4, 4, 4\)'),
        (dict(train_cfg=mixing('CutMix', 8)), ValueError, '16 patch tokens .* for 4'),
    ],
)
def test_refusals(change, error, message):
    with pytest.raises(error, match=message):
        loss_of(build(**change), data())
