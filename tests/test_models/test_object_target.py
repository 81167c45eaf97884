"""What is visible of objects, counted pixel by pixel; and a training step."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from mmtlalign.datasets import ObjectMask
from mmtlalign.models import CutMix, MixRecord, ObjectTarget, TokenCutMix

from .test_tlalign import build, data

BATCH, SIZE, PATCH = 4, 16, 4


def masks(seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (BATCH, SIZE, SIZE)).astype(np.uint8)
    pixels[rng.random(pixels.shape) < 0.7] = 0
    return pixels


def samples(pixels):
    out = [DataSample() for _ in pixels]
    for sample, mask in zip(out, pixels):
        sample.object_mask = ObjectMask(mask)
    return out


def target_share(record, data_samples):
    return ObjectTarget().share(record, None, torch.zeros(len(data_samples), 3), data_samples)


@pytest.mark.parametrize(
    'mix',
    [TokenCutMix(patch_size=PATCH, partner='random'), CutMix(patch_size=PATCH)],
    ids=['on the grid', 'between'],
)
def test_share_is_what_is_visible(mix):
    mix.seed(2)
    pixels, shares = masks(), []
    for _ in range(3):
        record = mix.draw(torch.rand(BATCH, 3, SIZE, SIZE))
        share = target_share(record, samples(pixels))
        for i, j in enumerate(record.partner.tolist()):
            if i == j:
                continue
            # where an image of ones mixed with zeros is one, the pixel is kept
            ones = torch.zeros(BATCH, 1, SIZE, SIZE)
            ones[i] = 1
            kept = mix.apply(ones, record)[i, 0].tolist()
            own = partner = 0
            for y in range(SIZE):
                for x in range(SIZE):
                    own += kept[y][x] * pixels[i, y, x] / 255
                    partner += (1 - kept[y][x]) * pixels[j, y, x] / 255
            assert share[i].item() == pytest.approx(own / (own + partner), abs=1e-5)
            shares.append((share[i] - record.lam[i]).abs().item())
    assert max(shares) > 0.02


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
        assert target_share(record, samples(pixels)).tolist() == pytest.approx(expected)


def test_trains_on_it():
    model = build(target=dict(type='mmtlalign.ObjectTarget'))
    assert model.trace is None
    batch = data()
    for sample, mask in zip(batch['data_samples'], masks()):
        sample.object_mask = ObjectMask(mask)
    packed = model.data_preprocessor(batch, training=True)
    losses = model.loss(**packed)
    share = target_share(packed['mix'], packed['data_samples'])
    assert losses['aligned_share'].item() == pytest.approx(share.mean().item())
    losses['loss'].backward()


def test_what_is_missing_is_named():
    record = TokenCutMix(patch_size=PATCH).draw(torch.rand(BATCH, 3, SIZE, SIZE))
    with pytest.raises(ValueError, match='samples have none.*algorithm_keys'):
        target_share(record, [DataSample() for _ in range(BATCH)])
    uneven = samples(masks())
    uneven[1].object_mask = ObjectMask(np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r'\(8, 8\), \(16, 16\)'):
        target_share(record, uneven)
    record.source = torch.zeros(BATCH, 4, 4)
    with pytest.raises(ValueError, match='moves patches'):
        target_share(record, samples(masks()))
