"""What share of its own label a sample is trained on, in loops written out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from mmtlalign.alignment import LabelTrace
from mmtlalign.datasets import ObjectMask
from mmtlalign.models import AttentionTarget, MixRecord, ObjectTarget, TokenCutMix, TokenMixTarget

from .test_tlalign import AREA, DISTILLED, build, config, cross_entropy, data, mixing

BATCH, GRID, CLASSES = 3, (4, 6), 5


def record():
    """Masks of single patches, one per sample; sample 2 is left alone."""
    share = (torch.rand(BATCH, *GRID) > 0.4).float()
    share[2] = 1
    return MixRecord(torch.tensor([1, 2, 0]), share, share.mean((1, 2)))


def samples(maps=False):
    out = [DataSample().set_gt_score(torch.eye(CLASSES)[i]) for i in range(BATCH)]
    for sample in out if maps else []:
        sample.gt_token_score = torch.randn(GRID[0] * GRID[1], CLASSES).softmax(1)
    return out


def attended(mix, trace, i):
    """Sample i's attention on own patches over that on all."""
    rows, cols = trace.grid
    v, u = (grid // n for grid, n in zip(mix.token_share.shape[1:], trace.grid))
    own = total = 0
    for row, col in np.ndindex(rows, cols):
        weight = trace.attention[i, row * cols + col].item()
        cell = mix.token_share[i, v * row : v * row + v, u * col : u * col + u]
        own += weight * cell.double().mean().item()
        total += weight
    return own / total


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('grid', [GRID, (2, 3), (4, 2)])
@pytest.mark.parametrize('ratio', [0.0, 0.8, 1.0])
def test_attention(grid, ratio, dtype):
    """In single precision and without gradient, whatever the attention has."""
    attention = torch.rand(BATCH, grid[0] * grid[1], dtype=dtype, requires_grad=True)
    mix, found = record(), SimpleNamespace(attention=attention, grid=grid)
    share = AttentionTarget(ratio=ratio).share(mix, found, None, None)
    for i in range(BATCH):
        expected = ratio * mix.lam[i].item() + (1 - ratio) * attended(mix, found, i)
        assert share[i].item() == pytest.approx(expected, abs=1e-6)
    assert share[2].item() == pytest.approx(1)
    assert share.dtype == torch.float32 and not share.requires_grad


def test_token_mix():
    mix, labelled = record(), samples(maps=True)
    target = TokenMixTarget()
    assert target.trace_cfg is None
    weights = target.share(mix, None, None, labelled)
    maps = [sample.gt_token_score[:, i].double() for i, sample in enumerate(labelled)]
    maps = [own / own.sum() for own in maps]
    for i, j in enumerate(mix.partner.tolist()):
        part = mix.token_share[i].flatten().double()
        expected = [(part @ maps[i]).item(), ((1 - part) @ maps[j]).item()]
        assert weights[i].tolist() == pytest.approx(expected, abs=1e-6)
    assert (weights[:2].sum(1) - 1).abs().min() > 1e-3, 'need not sum to one'
    assert weights[2].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert torch.equal(target.logged_share(None, weights), weights[:, 0])
    for sample in labelled:  # maps of zeros go by area
        sample.gt_token_score = torch.zeros_like(sample.gt_token_score)
    weights = target.share(mix, None, None, labelled)
    torch.testing.assert_close(weights, torch.stack((mix.lam, 1 - mix.lam), 1))


def test_mistakes():
    with pytest.raises(ValueError, match='LoadTokenLabels.*TokenLabelDataPreprocessor'):
        TokenMixTarget().share(record(), None, None, samples())
    for ratio in -0.1, 1.1, float('nan'):
        with pytest.raises(ValueError, match=f'ratio={ratio}'):
            AttentionTarget(ratio=ratio)


# What is visible of objects, counted pixel by pixel

SIZE = 16  # of four images, with masks of an object


def masks():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, SIZE, SIZE)).astype(np.uint8)
    pixels[rng.random(pixels.shape) < 0.7] = 0
    return pixels


def masked(pixels):
    out = [DataSample() for _ in pixels]
    for sample, mask in zip(out, pixels):
        sample.object_mask = ObjectMask(mask)
    return out


def target_share(record, data_samples):
    return ObjectTarget().share(record, None, torch.zeros(len(data_samples), 3), data_samples)


def test_area_where_nothing_is_visible():
    pixels = np.zeros((2, SIZE, SIZE), np.uint8)
    token_share = torch.ones(2, 4, 4)
    token_share[:, :2] = 0
    record = MixRecord(torch.tensor([1, 0]), token_share, token_share.mean((1, 2)))
    for changes, expected in (
        ({}, [0.5, 0.5]),
        # covered in the first, seen in the second: less than a pixel, and a whole one
        ({(0, 0, 0): 254}, [0.5, 0.5]),
        ({(0, 0, 1): 255}, [0.5, 0]),
        # seen in the second, covered in the first
        ({(1, 12, 3): 255}, [0.5, 1 / (1 + 1 + 254 / 255)]),
        ({(0, 9, 9): 255, (0, 9, 8): 255}, [1, 1 / (1 + 1 + 254 / 255)]),
    ):
        for place, value in changes.items():
            pixels[place] = value
        assert target_share(record, masked(pixels)).tolist() == pytest.approx(expected)


def test_mistakes_about_objects():
    record = TokenCutMix(patch_size=4).draw(torch.rand(4, 3, SIZE, SIZE))
    with pytest.raises(ValueError, match='samples have none.*algorithm_keys'):
        target_share(record, [DataSample() for _ in range(4)])
    uneven = masked(masks())
    uneven[1].object_mask = ObjectMask(np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r'\(8, 8\), \(16, 16\)'):
        target_share(record, uneven)
    moved = masked(masks())
    moved[2].set_field(True, 'flip', field_type='metainfo')
    with pytest.raises(ValueError, match=r'\(16, 16\) pixels, flip=False, .* flip=True'):
        target_share(record, moved)
    moved = masked(masks())
    moved[3].set_field((16, 20), 'img_shape', field_type='metainfo')
    with pytest.raises(ValueError, match=r'it is now \(16, 20\)'):
        target_share(record, moved)
    record.source = torch.zeros(4, 4, 4)
    with pytest.raises(ValueError, match='moves patches'):
        target_share(record, masked(masks()))


def test_a_batch_without_an_outline_is_refused():
    """As of trimaps whose background counts as object."""
    record = TokenCutMix(patch_size=4).draw(torch.rand(32, 3, SIZE, SIZE))
    pixels = np.full((32, SIZE, SIZE), 255, np.uint8)
    pixels[3] = 0
    with pytest.raises(ValueError, match='all 32 object masks .*values='):
        target_share(record, masked(pixels))
    pixels[3, 5, 5] = 1
    target_share(record, masked(pixels))


# One training step


def target(name, **kwargs):
    return dict(target=dict(type=f'mmtlalign.{name}', **kwargs))


CASES = {
    'aligned': {},
    'swin': dict(swin=True),
    'distilled': dict(backbone=DISTILLED, head=dict(config()['head'], type='DeiTClsHead')),
    'contribution': target('AlignedTarget', propagation='contribution'),
    'area': dict(target=AREA),
    'monitored area': dict(target=dict(AREA, monitor=True)),
    'attention': target('AttentionTarget', ratio=0.3),
    'patches': target('AttentionTarget', watch='patches'),
    'progressive': target('ProgressiveTarget'),
    'object': target('ObjectTarget'),
    'object, between patches': dict(target('ObjectTarget'), train_cfg=mixing('CutMix')),
}


def visible_part(mixing, mix, i):
    """Of the own object, over that of both, where a mix of ones and zeros keeps the own image."""
    ones = torch.zeros(4, 1, SIZE, SIZE)
    ones[i] = 1
    kept, pixels = mixing.apply(ones, mix)[i, 0].numpy(), masks()
    own, partner = (kept * pixels[i]).sum(), ((1 - kept) * pixels[mix.partner[i]]).sum()
    return own / (own + partner)


def share_by_hand(case, model, mix, trace, scores):
    """(B,); gradient flows through the factor of progressive labels alone."""
    if 'area' in case:
        return mix.lam
    if 'object' in case:
        mixing = model.data_preprocessor.batch_augments
        return torch.tensor([visible_part(mixing, mix, i) for i in range(4)])
    if trace.watch is None:
        return trace.output_share
    part = torch.tensor([attended(mix, trace, i) for i in range(4)])
    factor = dict(attention=0.7, patches=0.5).get(case)
    if factor is None:
        area = mix.lam[:, None] * torch.eye(CLASSES)[:4]
        area = area + (1 - mix.lam[:, None]) * torch.eye(CLASSES)[mix.partner]
        chance = scores.softmax(1)
        factor = (area * chance).sum(1) / (area.norm(dim=1) * chance.norm(dim=1))
    return factor * part + (1 - factor) * mix.lam


@pytest.mark.parametrize('case', CASES)
def test_training(case):
    """Share, loss and gradient of a step, with a LabelTrace of its own."""
    model, raw = build(**CASES[case]), data()
    assert (model.trace is None) == (case == 'area' or 'object' in case)
    for sample, mask in zip(raw['data_samples'], masks()):
        sample.object_mask = ObjectMask(mask)
    batch = model.data_preprocessor(raw, training=True)
    mix, weight = batch['mix'], model.backbone.patch_embed.projection.weight
    torch.manual_seed(5)  # drop path
    losses = model(**batch, mode='loss')
    losses['loss'].backward()
    found, weight.grad = weight.grad, None

    watch = dict(attention='class', progressive='class', patches='patches').get(case)
    propagation = 'contribution' if case == 'contribution' else 'tlalign'
    trace = LabelTrace(model.backbone, propagation=propagation, watch=watch)
    torch.manual_seed(5)
    with trace(mix.token_share):
        feats = model.backbone(batch['inputs'])
    scores = model.head(model.neck(feats) if model.with_neck else feats)
    share = share_by_hand(case, model, mix, trace, scores)
    own = share[:, None] * torch.eye(CLASSES)[:4]
    loss = cross_entropy(scores, own + (1 - share[:, None]) * torch.eye(CLASSES)[:4].flip(0))
    assert losses['loss'].item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(found, weight.grad)

    assert 0 < mix.lam[0] < 1 and losses['lam'].item() == pytest.approx(mix.lam[0].item())
    assert ('aligned_share' in losses) == (case != 'area')
    if case != 'area':
        logged = trace.output_share if 'area' in case else share
        moved = (logged - mix.lam).abs().mean().item()
        assert losses['aligned_share'].item() == pytest.approx(logged.mean().item(), rel=1e-5)
        assert losses['token_fluctuation'].item() == pytest.approx(moved, rel=1e-4)
        assert moved > 1e-4
    assert not any(value.requires_grad for key, value in losses.items() if key != 'loss')
