"""Masks of other papers: their area and shape, against what they state."""

import math

import numpy as np
import pytest
import torch

from mmtlalign.models import Cutout, FMix, GridMix, MaskMix, TokenMix


def shares(mix, count, batch=1, size=(32, 32)):
    """`count` draws of token_share, (count, B, rows, cols)."""
    mix.seed(0)
    inputs = torch.zeros(batch, 3, *size)
    return torch.stack([mix.draw(inputs).token_share for _ in range(count)])


def check_uniform(counts, values):
    """Each of `values` equally often, within 5 standard deviations."""
    assert set(counts) <= set(values)
    prob = 1 / len(values)
    found = np.array([np.mean(counts == value) for value in values])
    spread = math.sqrt(prob * (1 - prob) / len(counts))
    assert np.abs(found - prob).max() < 5 * spread


def test_maskmix_keeps_as_many_random_cells_of_each_image():
    """r uniform, so ceil(16 r) is uniform on 1 ... 16."""
    drawn = shares(MaskMix(patch_size=4, cell_size=2), 4000, batch=3)
    cells = drawn[..., ::2, ::2]
    assert torch.equal(cells.repeat_interleave(2, -1).repeat_interleave(2, -2), drawn), (
        'cells of 2x2 patches'
    )
    counts = cells.sum((-2, -1))
    assert (counts == counts[:, :1]).all(), 'one ratio per batch'
    check_uniform(counts[:, 0].numpy(), range(1, 17))
    part = counts[:, 0] < 16
    differ = (drawn[part, 0] != drawn[part, 1]).flatten(1).any(1)
    assert differ.float().mean() > 0.8, 'one mask per image'
    kept = cells[:, 0].mean(0)  # (16 + 1) / 2 of 16, wherever a cell lies
    assert (kept - 17 / 32).abs().max() < 0.04


def test_gridmix_draws_every_cell_by_itself():
    """Binomial with a uniform probability: uniform on 0 ... 16."""
    drawn = shares(GridMix(patch_size=4, cell_size=2), 4000, batch=2)
    assert torch.equal(drawn[:, 0], drawn[:, 1]), 'one mask per batch'
    cells = drawn[:, 0, ::2, ::2]
    check_uniform(cells.sum((-2, -1)).numpy(), range(17))
    assert (cells.mean(0) - 0.5).abs().max() < 0.04
    # two cells agree with probability 2/3, whatever their distance
    agree = (cells[:, 0, 0] == cells[:, 3, 3]).float().mean().item()
    assert agree == pytest.approx(2 / 3, abs=0.04)


def simulate_rectangles(rng, side=14, goal=112):
    """The number of patches covered, drawn with numpy patch by patch."""
    covered = np.zeros((side, side), bool)
    attempts = 0
    while covered.sum() < goal and attempts < 10:
        attempts += 1
        area = rng.uniform(1, goal - covered.sum())
        aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
        height = int(max(1, np.round(np.sqrt(area * aspect))))
        width = int(max(1, np.round(np.sqrt(area / aspect))))
        if height >= side or width >= side:
            continue
        new = covered.copy()
        top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
        new[top : top + height, left : left + width] = True
        if covered.sum() < new.sum() <= goal:
            covered, attempts = new, 0
    return covered.sum()


@pytest.mark.slow
def test_tokenmix_fills_rectangles_up_to_a_part():
    drawn = shares(TokenMix(), 600, batch=2, size=(224, 224))
    assert torch.equal(drawn[:, 0], drawn[:, 1]), 'one mask per batch'
    taken = (drawn[:, 0] == 0).sum((-2, -1)).numpy()
    rng = np.random.default_rng(0)
    expected = np.array([simulate_rectangles(rng) for _ in range(600)])
    assert taken.max() == expected.max() == 112
    assert (taken == 112).mean() == pytest.approx((expected == 112).mean(), abs=0.1)
    assert taken.mean() == pytest.approx(expected.mean(), rel=0.02)
    half = shares(TokenMix(ratio=0.25, patch_size=4), 100)
    assert ((half == 0).sum((-2, -1)) <= 16).all()


@pytest.mark.slow
def test_fmix_keeps_lam_of_the_pixels_in_few_pieces():
    mix = FMix(patch_size=4)
    mix.seed(0)
    lams, borders = [], []
    for _ in range(1500):
        (mask,) = mix.draw(torch.zeros(2, 3, 32, 24)).pixel_share
        assert ((mask == 0) | (mask == 1)).all()
        lams.append(mask.mean().item())
        if 0.3 < lams[-1] < 0.7:
            borders.append((mask[1:] != mask[:-1]).float().mean().item())
    assert np.mean(lams) == pytest.approx(0.5, abs=0.03)
    assert np.var(lams) == pytest.approx(1 / 12, rel=0.1)
    assert np.mean(borders) < 0.15, 'of white noise every second pixel changes'


def test_fmix_amplitudes_decay_as_told():
    """Measured in the noise itself, averaged over draws."""
    mix = FMix(decay_power=2.0, patch_size=4)
    mix.seed(0)
    power = sum(np.abs(np.fft.fft2(mix._noise((32, 32)).numpy())) ** 2 for _ in range(300))
    ratio = np.sqrt(power[0, 2:5].mean() / power[0, 8:11].mean())
    expected = np.sqrt(
        np.mean([f**-4.0 for f in (2, 3, 4)]) / np.mean([f**-4.0 for f in (8, 9, 10)])
    )
    assert ratio == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_cutout_blanks_a_box_and_leaves_labels():
    mix = Cutout(ratio=0.5, patch_size=4)
    mix.seed(0)
    inputs = torch.rand(4, 3, 16, 24) + 1
    blanked = []
    for _ in range(500):
        record = mix.draw(inputs)
        out = mix.apply(inputs, record)
        assert (record.lam == 1).all() and (record.token_share == 1).all()
        assert record.partner.tolist() == [0, 1, 2, 3]
        for i in range(4):
            blank = (out[i] == 0).all(0)
            assert torch.equal(out[i][:, ~blank], inputs[i][:, ~blank])
            rows, cols = np.nonzero(blank.numpy())
            height, width = np.ptp(rows) + 1, np.ptp(cols) + 1
            assert height * width == blank.sum(), 'a box'
            assert height <= 8 and width <= 12
            blanked.append(len(rows))
    # the mean over all centres, side by side
    sides = [
        np.mean([min(c - n // 4 + n // 2, n) - max(c - n // 4, 0) for c in range(n)])
        for n in (16, 24)
    ]
    assert np.mean(blanked) == pytest.approx(np.prod(sides), rel=0.03)
    mixed, scores = mix(inputs, torch.eye(4))
    assert torch.equal(scores, torch.eye(4))
    assert (mixed == 0).any() and (inputs > 0).all()
