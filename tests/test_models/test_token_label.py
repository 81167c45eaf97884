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
from mmtlalign.models import (
    MixRecord,
    MixToken,
    RandomMix,
    TokenCutMix,
    put_back_tokens,
    swap_tokens,
)
from mmtlalign.models.data_preprocessors.token_scores import crop_scores, expand_maps

SOFT_CE = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
MIX_TOKEN = dict(augments=[dict(type='mmtlalign.MixToken', patch_size=4)])
CLASSES = 5


def config(**kwargs):
    return {
        **dict(
            type='mmtlalign.TokenLabelClassifier',
            backbone=dict(
                type='mmtlalign.LVViT',
                img_size=16,
                patch_size=4,
                out_type='raw',
                arch=dict(
                    embed_dims=16,
                    num_layers=2,
                    num_heads=2,
                    feedforward_channels=32,
                    stem_channels=8,
                    skip_lam=2.0,
                ),
            ),
            head=dict(
                type='mmtlalign.TokenLabelHead', num_classes=CLASSES, in_channels=16, loss=SOFT_CE
            ),
            data_preprocessor=dict(num_classes=CLASSES, mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0]),
            train_cfg=MIX_TOKEN,
        ),
        **kwargs,
    }


def build(head=None, **kwargs):
    """The model, for testing, with weights that make a difference."""
    cfg = config(**kwargs)
    cfg['head'].update(head or {})
    model = MODELS.build(cfg)
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        if p.ndim > 1:
            p.data.normal_(0, 0.3, generator=generator)
    return model.eval()


def random_labels(
    rows=6, cols=6, k=2, size=(16, 16), mode='probs', seed=0, num_classes=CLASSES, **kwargs
):
    """A random map whose box is a part of it."""
    rng = np.random.default_rng(seed)
    ids = np.argsort(rng.random((rows, cols, num_classes)), -1)[..., :k]
    scores = rng.dirichlet(np.ones(k + 1), (rows, cols))[..., :k]
    box = np.array([0.7, 1.3, 4.2, 5.9], np.float32)
    return TokenLabels(
        ids.astype(np.int16),
        scores.astype(np.float16),
        kwargs.pop('box', box),
        size,
        num_classes,
        mode,
        **kwargs,
    )


def data(batch=4, labelled=True, **kwargs):
    generator = torch.Generator().manual_seed(2)
    samples = [DataSample().set_gt_label(i % CLASSES) for i in range(batch)]
    if labelled:
        for i, sample in enumerate(samples):
            sample.token_labels = random_labels(seed=i, **kwargs)
    return dict(inputs=torch.randn(batch, 3, 16, 16, generator=generator), data_samples=samples)


def dense(labels):
    """The map of one image written out, (rows, cols, K), in a loop."""
    rows, cols, k = labels.ids.shape
    out = np.zeros((rows, cols, labels.num_classes))
    for row in range(rows):
        for col in range(cols):
            scores = labels.scores[row, col].astype(float)
            if labels.score_mode == 'probs':
                rest = 1 - scores.sum()
                if k < labels.num_classes:
                    out[row, col] = rest / (labels.num_classes - k)
                else:
                    scores /= scores.sum()
            out[row, col, labels.ids[row, col]] = scores
    return out


def sampled(labels, grid):
    """RoIAlign by an explicit loop over its sample points, (N, K)."""
    maps, (x1, y1, x2, y2) = dense(labels), labels.box.astype(float)
    rows, cols = maps.shape[:2]
    height, width = (y2 - y1) / grid[0], (x2 - x1) / grid[1]
    ny, nx = int(np.ceil(height)), int(np.ceil(width))
    out = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            total = 0
            for v in range(ny):
                for u in range(nx):
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


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def targets(labels, grid=(4, 4)):
    cells = sampled(labels, grid)
    return cells if labels.score_mode == 'probs' else softmax(cells)


# From maps to the scores of tokens


@pytest.mark.parametrize('mode', ['probs', 'logits'])
@pytest.mark.parametrize('k', [1, 2, CLASSES])
@pytest.mark.parametrize(
    'box', [(0, 0, 7, 6), (0.7, 1.3, 4.2, 5.9), (2.1, 0, 2.4, 6), (0, 3.0, 7, 3.2)]
)
def test_scores_of_tokens(mode, k, box):
    labels = random_labels(rows=6, cols=7, k=k, mode=mode, box=np.array(box, np.float32))
    maps = expand_maps(
        torch.from_numpy(labels.ids[None]), torch.from_numpy(labels.scores[None]), CLASSES, mode
    )
    for grid in ((4, 4), (3, 5), (1, 1)):
        found = crop_scores(maps, torch.tensor([box]), grid, mode)[0]
        np.testing.assert_allclose(found, targets(labels, grid), atol=1e-5)
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def test_whole_map_on_its_own_grid_is_the_map_itself():
    labels = random_labels(rows=6, cols=7, box=np.array([0, 0, 7, 6.0]))
    maps = expand_maps(
        torch.from_numpy(labels.ids[None]), torch.from_numpy(labels.scores[None]), CLASSES, 'probs'
    )
    found = crop_scores(maps, torch.tensor([[0, 0, 7, 6.0]]), (6, 7), 'probs')
    np.testing.assert_allclose(found[0].view(6, 7, CLASSES), dense(labels), atol=1e-6)


@pytest.mark.parametrize('mode', ['probs', 'logits'])
def test_outside_the_map_scores_are_even(mode):
    labels = random_labels(mode=mode)
    maps = expand_maps(
        torch.from_numpy(labels.ids[None]), torch.from_numpy(labels.scores[None]), CLASSES, mode
    )
    found = crop_scores(maps, torch.tensor([[-12.0, 0, 20, 6]]), (1, 4), mode)[0]
    np.testing.assert_allclose(found[[0, 3]], 1 / CLASSES, atol=1e-6)
    assert (found[1] - 1 / CLASSES).abs().max() > 0.001


# MixToken


@pytest.mark.parametrize('partner', ['reverse', 'random'])
def test_swapped_tokens_against_a_loop_and_back(partner):
    mix = MixToken(patch_size=4, partner=partner)
    mix.seed(1)
    tokens = torch.randn(5, 12, 3)
    moved = 0
    for _ in range(20):
        record = mix.draw(torch.zeros(5, 3, 12, 16))
        swapped = swap_tokens(tokens, record.token_share, record.partner)
        assert record.in_backbone
        for i in range(5):
            for n in range(12):
                inside = record.token_share[i, n // 4, n % 4] == 0
                source = record.partner[i] if inside else i
                assert torch.equal(swapped[i, n], tokens[source, n])
                moved += inside
        back = put_back_tokens(swapped, record.token_share, record.partner)
        assert torch.equal(back, tokens)
    assert moved > 100


def test_mix_token_draws_as_token_cutmix_does():
    inputs = torch.zeros(4, 3, 16, 16)
    for even_sides in (False, True):
        ours = MixToken(patch_size=4, even_sides=even_sides)
        other = TokenCutMix(patch_size=4, even_sides=even_sides)
        for mix in (ours, other):
            mix.seed(7)
        for _ in range(10):
            assert torch.equal(ours.draw(inputs).token_share, other.draw(inputs).token_share)


def test_images_cannot_be_mixed_by_it():
    message = 'MixToken mixes tokens .*mmtlalign.TokenLabelClassifier'
    stock = ClsDataPreprocessor(num_classes=CLASSES, batch_augments=MIX_TOKEN)
    with pytest.raises(TypeError, match=message):
        stock(data(labelled=False), training=True)
    with pytest.raises(TypeError, match=message):
        RandomMix([MixToken(patch_size=4)]).__call__(torch.zeros(2, 3, 8, 8), torch.eye(2))


# One training step


@pytest.mark.parametrize('partner', ['reverse', 'random'])
@pytest.mark.parametrize('target', ['AreaTarget', 'AlignedTarget'])
@pytest.mark.parametrize('cls_target', ['machine', 'ground_truth', 'blend'])
@pytest.mark.parametrize('dense_weight', [1.0, 0.5])
def test_losses_by_hand(partner, target, cls_target, dense_weight):
    mix = dict(type='mmtlalign.MixToken', patch_size=4, partner=partner)
    model = build(
        head=dict(cls_target=cls_target, dense_weight=dense_weight),
        target=dict(type=f'mmtlalign.{target}'),
        train_cfg=dict(augments=[mix]),
    )
    model.data_preprocessor.batch_augments.seed(3)
    raw = data()
    labels = [sample.token_labels for sample in raw['data_samples']]
    batch = model.data_preprocessor(raw, training=True)
    record = batch['mix']
    assert torch.equal(batch['inputs'], data()['inputs']), 'images stay'
    losses = model.loss(**batch)

    share = record.token_share.flatten(1)
    assert 0 < share.mean() < 1
    partners = record.partner.tolist()
    # tokens mixed by hand, in the middle of a plain forward
    backbone = model.backbone
    tokens, _ = backbone.patch_embed(batch['inputs'])
    mixed = tokens.clone()
    for i, j in enumerate(partners):
        mixed[i, share[i] == 0] = tokens[j, share[i] == 0]
    x = torch.cat((backbone.cls_token.expand(4, -1, -1), mixed), 1)
    x = x + backbone.pos_embed
    for layer in backbone.layers:
        x = layer(x)
    x = backbone.ln1(x)

    weight = share.mean(1)
    if target == 'AlignedTarget':
        weight = losses['aligned_share'].expand(4)
        trace = LabelTrace(backbone)
        with model.mixed_tokens(record), trace(record.token_share):
            backbone(batch['inputs'])
        weight = trace.output_share
        assert losses['aligned_share'].item() == pytest.approx(weight.mean().item())

    def soft_ce(logits, target):
        smooth = 0.9 * target + 0.1 / CLASSES
        return -(smooth * logits.log_softmax(-1)).sum(-1)

    def own_target(i):
        machine = torch.from_numpy(targets(labels[i], (1, 1))[0]).float()
        truth = torch.eye(CLASSES)[i % CLASSES]
        if cls_target == 'machine':
            return machine
        if cls_target == 'ground_truth':
            return truth
        m = 0.5 if machine.argmax() == truth.argmax() else 0.9
        return m * machine + (1 - m) * truth

    cls_loss, dense_loss = [], []
    maps = [torch.from_numpy(targets(label)).float() for label in labels]
    for i, j in enumerate(partners):
        label = weight[i] * own_target(i) + (1 - weight[i]) * own_target(j)
        cls_loss.append(soft_ce(model.head.layers.head(x[i, 0]), label))
        for n in range(16):
            source = i if share[i, n] else j
            dense_loss.append(soft_ce(model.head.aux_head(x[i, 1 + n]), maps[source][n]))
    cls_loss, dense_loss = (sum(values) / len(values) for values in (cls_loss, dense_loss))
    torch.testing.assert_close(losses['loss_cls'], cls_loss)
    torch.testing.assert_close(losses['loss_dense'], dense_weight * dense_loss)


def test_every_part_is_trained():
    model = build()
    batch = model.data_preprocessor(data(), training=True)
    losses = model.loss(**batch)
    (losses['loss_cls'] + losses['loss_dense']).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_targets_of_mixed_images_are_mixed_token_by_token():
    cutmix = dict(type='mmtlalign.CutMix', patch_size=4)
    model = build(train_cfg=dict(augments=[cutmix]))
    raw = data()
    labels = [sample.token_labels for sample in raw['data_samples']]
    batch = model.data_preprocessor(raw, training=True)
    record, x = batch['mix'], model.backbone(batch['inputs'])[0]
    assert not record.in_backbone
    expected = []
    for i, sample in enumerate(batch['data_samples']):
        np.testing.assert_allclose(sample.gt_token_score, targets(labels[i]), atol=1e-5)
        share = record.token_share[i].flatten()[:, None].numpy()
        mixed = share * targets(labels[i]) + (1 - share) * targets(labels[3 - i])
        smooth = torch.from_numpy(0.9 * mixed + 0.1 / CLASSES)
        logits = model.head.aux_head(x[i, 1:]).double()
        expected.append(-(smooth * logits.log_softmax(-1)).sum(-1).mean())
    assert model.loss(**batch)['loss_dense'].item() == pytest.approx(
        sum(expected).item() / 4, rel=1e-5
    )


def test_token_mix_weighs_labels_by_what_is_visible_of_their_maps():
    """Any classifier and head, with the preprocessor of token labels."""
    bce = dict(SOFT_CE, use_sigmoid=True, loss_weight=1 / CLASSES)
    cfg = config(
        type='mmtlalign.TLAlignClassifier',
        target=dict(type='mmtlalign.TokenMixTarget'),
        train_cfg=dict(augments=[dict(type='mmtlalign.TokenCutMix', patch_size=4)]),
    )
    cfg['head'] = dict(
        type='VisionTransformerClsHead', num_classes=CLASSES, in_channels=16, loss=bce
    )
    cfg['backbone']['out_type'] = 'cls_token'
    cfg['data_preprocessor']['type'] = 'mmtlalign.TokenLabelDataPreprocessor'
    model = MODELS.build(cfg).eval()
    model.head.layers.head.weight.data.normal_()
    raw = data()
    maps = [targets(sample.token_labels) for sample in raw['data_samples']]
    model.data_preprocessor.batch_augments.seed(3)
    batch = model.data_preprocessor(raw, training=True)
    losses = model.loss(**batch)
    share = batch['mix'].token_share.flatten(1).numpy()
    assert 0 < share.mean() < 1
    with torch.no_grad():
        prob = model(batch['inputs']).double().sigmoid().numpy()
    expected, weights = 0, []
    for i in range(4):
        own, other = (maps[k][:, k] / maps[k][:, k].sum() for k in (i, 3 - i))
        weights.append((own @ share[i], other @ (1 - share[i])))
        label = weights[-1][0] * np.eye(CLASSES)[i] + weights[-1][1] * np.eye(CLASSES)[3 - i]
        smooth = 0.9 * label + 0.1 / CLASSES
        expected -= np.mean(smooth * np.log(prob[i]) + (1 - smooth) * np.log(1 - prob[i])) / 4
    assert losses['loss'].item() == pytest.approx(expected, rel=1e-5)
    assert losses['aligned_share'].item() == pytest.approx(
        np.mean([own for own, _ in weights]), rel=1e-5
    )


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
    """MixToken alone: the same model, on the data set's labels."""
    model = build(head=dict(dense_weight=0.0, cls_target='ground_truth'))
    batch = model.data_preprocessor(data(labelled=False), training=True)
    losses = model.loss(**batch)
    assert 'loss_dense' not in losses and losses['loss_cls'] > 0
    other = build()
    batch = other.data_preprocessor(data(labelled=False), training=True)
    with pytest.raises(ValueError, match='LoadTokenLabels'):
        other.loss(**batch)


def test_patch_tokens_left_out_wait_for_no_gradient():
    """DDP would wait for ever."""
    model = build(head=dict(dense_weight=0.0, cls_target='ground_truth'))
    batch = model.data_preprocessor(data(labelled=False), training=True)
    model.loss(**batch)['loss_cls'].backward()
    assert all(p.grad is not None for p in model.head.parameters() if p.requires_grad)
    assert all(p.requires_grad for p in build().head.parameters())


@pytest.mark.parametrize('reentrant', [True, False])
def test_checkpointing_blocks_and_not_the_backbone(reentrant):
    """Gradients stay, or the training is refused."""

    def gradients(model):
        model.zero_grad()
        model.data_preprocessor.batch_augments.seed(3)
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


def test_unmixed_batches():
    never = dict(augments=MIX_TOKEN['augments'], probs=[0.0])
    model = build(train_cfg=never)
    batch = model.data_preprocessor(data(), training=True)
    losses = model.loss(**batch)
    assert losses['lam'] == 1 and losses['loss_dense'] > 0
    with pytest.raises(ValueError, match=r'train_cfg.*probs=\[0.\]'):
        unset = build(train_cfg=None)
        unset.loss(**unset.data_preprocessor(data(), training=True))


def test_the_hosts_vit():
    model = build(
        backbone=dict(
            type='VisionTransformer',
            img_size=16,
            patch_size=4,
            out_type='raw',
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        )
    )
    batch = model.data_preprocessor(data(), training=True)
    assert model.loss(**batch)['loss_dense'] > 0


@pytest.mark.parametrize(
    'backbone, count',
    [
        (dict(type='DistilledVisionTransformer'), 2),
        (dict(type='VisionTransformer', with_cls_token=False), 0),
    ],
)
def test_backbones_without_exactly_one_class_token(backbone, count):
    with pytest.raises(TypeError, match=f'puts {count} tokens before'):
        build(backbone=dict(backbone, img_size=16, patch_size=4, out_type='raw'))


def test_swin_mixes_tokens_with_a_plain_head():
    model = MODELS.build(
        config(
            backbone=dict(
                type='SwinTransformer',
                img_size=16,
                patch_size=2,
                window_size=4,
                out_indices=(1,),
                arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]),
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='mmtlalign.TLAlignLinearClsHead',
                num_classes=CLASSES,
                in_channels=16,
                loss=SOFT_CE,
                cal_acc=False,
            ),
            train_cfg=dict(augments=[dict(type='mmtlalign.MixToken', patch_size=2)]),
            target=dict(type='mmtlalign.AlignedTarget'),
        )
    )
    batch = model.data_preprocessor(data(labelled=False), training=True)
    losses = model.loss(**batch)
    assert torch.isfinite(losses['loss'])


# The swap lasts for one training forward


def swap_of_two(share):
    return MixRecord(
        torch.tensor([1, 0]),
        torch.full((2, 4, 4), share),
        torch.full((2,), share),
        in_backbone=True,
    )


def test_backbone_is_left_as_it_was():
    model = build()
    patch_embed = model.backbone.patch_embed
    record = swap_of_two(share=1.0)
    with pytest.raises(ZeroDivisionError):
        with model.mixed_tokens(record):
            assert 'forward' in vars(patch_embed)
            1 / 0
    assert 'forward' not in vars(patch_embed)
    mine = patch_embed.forward
    patch_embed.forward = mine  # someone else's instance attribute
    with model.mixed_tokens(record):
        pass
    assert vars(patch_embed)['forward'] is mine


def test_a_compiled_backbone_swaps_tokens_too():
    model = build()
    inputs = data(2)['inputs']
    record = swap_of_two(share=0.0)
    compiled = torch.compile(model.backbone, backend='aot_eager')
    (plain,) = compiled(inputs)
    with model.mixed_tokens(record):
        (swapped,) = compiled(inputs)
    torch.testing.assert_close(swapped, plain.flip(0))
    torch.testing.assert_close(compiled(inputs)[0], plain)


# Refusals


def loss_of(model, raw):
    return model.loss(**model.data_preprocessor(raw, training=True))


@pytest.mark.parametrize(
    'raw, message',
    [
        (lambda: data(num_classes=6), 'for 6 classes, the data preprocessor for 5'),
        (lambda: data(size=(20, 16)), r'\(20, 16\) pixels.*now \(16, 16\)'),
        (lambda: data(flip=True), 'flip=True, but it is now .*flip=False'),
    ],
)
def test_labels_that_do_not_fit(raw, message):
    with pytest.raises(ValueError, match=message):
        loss_of(build(), raw())


@pytest.mark.parametrize(
    'change, error, message',
    [
        (dict(head=dict(cls_target='teacher')), ValueError, "'teacher'.*machine"),
        (dict(head=dict(dense_weight=-1.0)), ValueError, 'dense_weight=-1.0'),
        (
            dict(backbone=dict(type='ResNet', depth=18)),
            TypeError,
            'backbone is a ResNet of mmpretrain; label alignment knows',
        ),
    ],
)
def test_bad_settings(change, error, message):
    with pytest.raises(error, match=message):
        build(**change)


def test_other_outputs_and_patch_sizes_are_refused():
    cfg = config()
    cfg['backbone']['out_type'] = 'cls_token'
    with pytest.raises(ValueError, match="out_type of the backbone to 'raw'"):
        loss_of(MODELS.build(cfg), data())
    eight = dict(augments=[dict(type='mmtlalign.MixToken', patch_size=8)])
    with pytest.raises(ValueError, match='16 patch tokens .* for 4'):
        loss_of(build(train_cfg=dict(eight, probs=[0.0])), data())
    with pytest.raises(
        ValueError,
        match=r'\(4, 2, 2\), but patch_embed gave '
        r'\(4, 4, 4\)',
    ):
        loss_of(build(train_cfg=eight), data())
