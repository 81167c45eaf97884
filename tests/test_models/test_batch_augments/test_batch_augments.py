"""Mixing methods, against loops over pixels written out here."""

import numpy as np
import pytest
import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample

from mmtlalign.models import (
    CutMix,
    Cutout,
    FMix,
    GridMix,
    MaskMix,
    MixToken,
    Mixup,
    RandomMix,
    TokenCutMix,
    TokenMix,
)
from mmtlalign.registry import BATCH_AUGMENTS

TWO = [TokenCutMix(patch_size=4), Mixup(patch_size=4)]
METHODS = [
    TokenCutMix(patch_size=4),
    TokenCutMix(patch_size=4, even_sides=True, partner='random'),
    CutMix(patch_size=4),
    CutMix(patch_size=4, partner='random'),
    Mixup(patch_size=4, partner='random'),
    MaskMix(patch_size=4, cell_size=1),
    GridMix(patch_size=4, cell_size=1),
    TokenMix(patch_size=4),
    FMix(patch_size=4),
    RandomMix(TWO, [0.4, 0.4]),
]
CUTMIX = dict(type='mmtlalign.CutMix')
GOLDEN_DRAWS = [  # sums of shares and of partners, by turns, from seed 5
    (CutMix(patch_size=4, partner='random'), [73.3125, 4, 25.3125, 4, 83.0625, 2, 99.9375, 1]),
    (TokenCutMix(patch_size=4, partner='random'), [69, 4, 69, 4, 96, 2, 99, 1]),
    (MixToken(patch_size=4, even_sides=True), [81, 1, 105, 1, 45, 1, 87, 1]),
    (Mixup(patch_size=4, partner='random'), [17.07695, 1, 58.63484, 2, 68.30535, 2, 58.2183, 2]),
    (RandomMix(TWO, [0.4, 0.4]), [2.19775, 1, 56.14952, 1, 19.0359, 1, 69, 1]),
]


def images(batch=3, height=12, width=20):
    """Images whose every pixel tells which image it is from."""
    value = torch.arange(1.0, batch + 1)[:, None, None, None]
    return value.expand(batch, 3, height, width).clone()


@pytest.mark.slow
@pytest.mark.parametrize('mix', METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize('batch', [1, 5])
def test_record_tells_what_is_in_images_and_scores(mix, batch):
    seen, inputs, scores = set(), images(batch), torch.eye(5)[:batch]
    for seed in range(20):
        mix.seed(seed)
        record = mix.draw(inputs)
        mix.seed(seed)
        mixed, target = mix(inputs, scores)
        assert torch.equal(inputs, images(batch)), 'modified in place'
        lam = record.lam[:, None]
        torch.testing.assert_close(target, lam * scores + (1 - lam) * scores[record.partner])
        for i in range(batch):
            own, partner = i + 1.0, record.partner[i] + 1.0
            if own == partner:
                assert torch.allclose(mixed[i], inputs[i])
                continue
            # The part of every pixel that is the image's own.
            part = ((mixed[i, 0] - partner) / (own - partner)).numpy()
            cells = part.reshape(3, 4, 5, 4).mean((1, 3))
            np.testing.assert_allclose(record.token_share[i], cells, atol=1e-6)
            assert record.lam[i].item() == pytest.approx(part.mean(), abs=1e-6)
            seen.add(round(record.lam[i].item(), 3))
    varied = 0 if type(mix) is TokenMix else 2  # its area hardly varies
    assert batch == 1 or len(seen) > varied


@pytest.mark.parametrize(
    'build',
    [CutMix, Mixup, FMix, TokenMix, Cutout, MaskMix, GridMix, lambda: RandomMix([CutMix()])],
)
def test_built_and_drawn_from_under_another_default_device(build):
    with torch.device('meta'):
        mix = build()
        mix.seed(0)
        assert 0 <= mix.draw_lam(1.0) <= 1
        assert 0 <= mix.draw_index(4) < 4
        assert mix.draw_partner(4).device.type in ('cpu', 'meta')
    record = mix.draw(images(height=32, width=32))
    assert record.lam.device.type == 'cpu'


@pytest.mark.slow
@pytest.mark.parametrize('even_sides', [True, False])
def test_box_distribution(even_sides):
    """Sides of unclipped boxes, and the pasted part against a simulation.

    The simulation draws with numpy, by the rule of the published code:
    centre anywhere on the 14x14 grid, half a side to both of its sides.
    """
    mix = TokenCutMix(even_sides=even_sides)
    mix.seed(0)
    inputs = torch.zeros(1, 3, 224, 224)
    shares = torch.cat([mix.draw(inputs).token_share for _ in range(4000)])
    assert ((shares == 0) | (shares == 1)).all(), 'no patch is split'
    taken = 1 - shares
    sides = torch.stack((taken.amax(2).sum(1), taken.amax(1).sum(1)), 1)
    assert torch.equal(sides.prod(1), taken.sum((1, 2))), 'one box'
    inner = (taken[:, [0, -1]].sum((1, 2)) == 0) & (taken[..., [0, -1]].sum((1, 2)) == 0)
    assert (sides[inner] % 2).any() != even_sides
    assert (inner & (sides > 0).all(1)).sum() > 100 and sides.max() >= 12

    random = np.random.RandomState(0)
    pasted = []
    for _ in range(4000):
        side = int(14 * np.sqrt(1 - random.beta(1.0, 1.0)))
        before = side // 2
        after = before if even_sides else side - before
        area = 1
        for centre in random.randint(14, size=2):
            area *= min(centre + after, 14) - max(centre - before, 0)
        pasted.append(area / 196)
    ours = taken.mean((1, 2)).numpy()
    assert ours.mean() == pytest.approx(np.mean(pasted), abs=0.012)
    assert (ours == 0).mean() == pytest.approx((np.array(pasted) == 0).mean(), abs=0.008)


def test_switch_frequencies_and_unmixed_batches():
    probs = [0.5, 0.3]
    mix = RandomMix(TWO, probs)
    mix.seed(0)
    records = [mix.draw(images()) for _ in range(2000)]
    assert probs == [0.5, 0.3], "the caller's"
    for choice, prob in enumerate((*probs, 0.2)):
        drawn = [r for r in records if r.choice == (choice,)]
        assert len(drawn) / 2000 == pytest.approx(prob, abs=0.04)
        blends = {bool(0 < r.lam[0] < 1 and r.token_share[0, 0, 0] == r.lam[0]) for r in drawn}
        assert blends == {choice == 1}
        assert choice < 2 or all((r.lam == 1).all() for r in drawn)


def test_draws_are_those_of_earlier_releases():
    """Exact resuming of older trainings; numbers noted at release 0.1. No global state changes."""
    inputs, before = images(3, 20, 28), (torch.get_rng_state(), np.random.get_state()[1].copy())
    for mix, sums in GOLDEN_DRAWS:
        mix.seed(5)
        drawn = []
        for _ in range(4):
            record = mix.draw(inputs)
            drawn += [
                record.token_share.double().sum().item(),
                record.partner.double().dot(torch.arange(3.0).double()).item(),
            ]
        assert drawn == pytest.approx(sums, abs=1e-5)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize(
    'kind, arguments, message',
    [
        ('TokenCutMix', dict(alpha=0), 'alpha=0 .* positive'),
        ('Mixup', dict(alpha=-1.0), 'alpha=-1.0'),
        ('CutMix', dict(alpha='1.0'), "alpha='1.0' .* positive"),
        ('CutMix', dict(patch_size=0), 'patch_size=0'),
        ('CutMix', dict(patch_size=True), 'patch_size=True'),
        ('CutMix', dict(partner='next'), "partner='next'.*reverse"),
        ('MaskMix', dict(cell_size=0), 'cell_size=0'),
        ('GridMix', dict(alpha=-1.0), 'alpha=-1.0'),
        ('TokenMix', dict(ratio=1.0), 'ratio=1.0'),
        ('Cutout', dict(ratio=0.0), 'ratio=0.0'),
        ('RandomMix', dict(augments=[]), 'augments is empty'),
        ('RandomMix', dict(augments=[CUTMIX], probs=[0.5, 0.5]), '1 augments need 1 probs.*2'),
        ('RandomMix', dict(augments=[CUTMIX] * 2, probs=[0.9, 0.9]), 'sum to 1.8'),
        ('RandomMix', dict(augments=[CUTMIX], probs=-0.1), 'negative'),
        ('RandomMix', dict(augments=[CUTMIX, dict(CUTMIX, patch_size=4)]), r'\[16, 4\]'),
        ('RandomMix', dict(augments=dict(type='mmpretrain.CutMix', alpha=1.0)), 'no record'),
    ],
)
def test_bad_settings(kind, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        BATCH_AUGMENTS.build(dict(arguments, type=f'mmtlalign.{kind}'))


def test_records_are_applied_by_the_method_that_drew_them():
    """Also one whose way of mixing the base class does not know."""

    class Shift(Mixup):
        def apply(self, inputs, record):
            return inputs + 100

    mix = RandomMix([Shift(patch_size=4), TokenCutMix(patch_size=4)], probs=[0.4, 0.4])
    for mix, first in (mix, (0,)), (RandomMix([mix]), (0, 0)):
        mix.seed(0)
        records = [mix.draw(images()) for _ in range(60)]
        for record in [*reversed(records), *records]:  # in any order, again
            mixed = mix.apply(images(), record)
            assert (mixed.min() > 100) == (record.choice == first)
            assert (record.choice[-1] < 2) or torch.equal(mixed, images())
        assert {record.choice[-1] for record in records} == {0, 1, 2}


@pytest.mark.parametrize(
    'mix, inputs, message',
    [
        *(
            (RandomMix([mix], probs=1.0), images(height=14), '14x20 .*patch_size=4')
            for mix in METHODS
        ),
        (MaskMix(patch_size=4, cell_size=3), images(height=32), '8x5 patches .*cell_size=3'),
        (FMix(patch_size=5), images(height=32), '32x20 pixels .*patch_size=5'),
    ],
)
def test_images_must_divide_into_patches(mix, inputs, message):
    with pytest.raises(ValueError, match=message):
        mix.draw(inputs)


def test_in_the_stock_preprocessor():
    def stock(kind):
        augments = dict(augments=[dict(type=f'mmtlalign.{kind}', patch_size=4)])
        samples = [DataSample().set_gt_label(i) for i in range(3)]
        preprocess = ClsDataPreprocessor(num_classes=3, batch_augments=augments)
        return preprocess(dict(inputs=images(), data_samples=samples), training=True)

    data = stock('TokenCutMix')
    assert data['inputs'].shape == (3, 3, 12, 20)
    assert data['data_samples'][0].gt_score.sum() == pytest.approx(1)
    with pytest.raises(TypeError, match='MixToken mixes tokens .*mmtlalign.TokenLabelClassifier'):
        stock('MixToken')
    mix = Mixup(patch_size=4)
    with pytest.raises(TypeError, match='uint8; mix them after'):
        mix.apply(images().byte(), mix.draw(images()))
