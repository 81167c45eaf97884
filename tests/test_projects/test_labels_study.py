"""The second study does what its protocol says, with made-up units."""

import json

import cv2
import labels_report
import labels_study as study
import numpy as np
import pytest
import trainings
from scipy import stats

from mmtlalign.errors import UserError

AREA = 70.0


GAPS = {'o12': [4, 5, 6, 7], 'o8': [-1, 1, -2, 1], 'o12-2000': [3, 3, 3, 4]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(study, 'UNITS', tmp_path / 'units')
    monkeypatch.setattr(study, 'DECISION', tmp_path / 'decision.json')
    for module in (study, trainings):
        monkeypatch.setattr(module, 'ROOT', tmp_path)
    # reading configs takes long; that recipes differ is tested below
    monkeypatch.setattr(study.Unit, 'recipe', 'one')
    (tmp_path / 'units').mkdir()


def store(unit, top1):
    stored = dict(top1=top1, nll=2 - top1 / 100, calibration_error=0.1, recipe='one')
    unit.file.write_text(json.dumps(dict(stored, cpu_seconds=100)))


def decide(gaps):
    """gaps: regime -> object - area of the four seeds."""
    for unit in study.screen_units():
        store(unit, AREA + gaps[unit.regime][unit.seed - 100] * (unit.arm == 'object'))
    return study.decide()


@pytest.fixture
def decision():
    made = decide(GAPS)
    study.DECISION.write_text(json.dumps(made))
    return made


def control_units(attempt, decision):
    seeds = study.confirm_seeds(attempt, decision)
    return study.confirm_units(decision['tries'][attempt], ('area', 'object'), seeds)


def test_the_screen_is_what_the_protocol_says():
    units = study.plan()
    assert len(units) == len(set(units)) == 3 * 2 * 4
    # seeds advance together
    assert [unit.seed for unit in units] == sorted([100, 101, 102, 103] * 6)


def test_regimes_are_ranked_by_mean_over_spread(decision):
    ranks = {row['regime']: row['rank'] for row in decision['screen']}
    for regime, gaps in GAPS.items():
        assert ranks[regime] == pytest.approx(np.mean(gaps) / np.std(gaps, ddof=1))
    assert [row['regime'] for row in decision['screen']] == ['o12-2000', 'o12', 'o8']
    assert decision['tries'] == ['o12-2000', 'o12']
    # one behind is not confirmed
    assert decide({regime: [-1, -2, -1, -3] for regime in GAPS})['tries'] == []


def test_number_of_pairs_has_the_power_it_claims():
    """By simulation; and one pair fewer would not do."""
    spread, rng = 3.2, np.random.default_rng(0)
    pairs = study.pairs_needed(spread)
    assert study.MIN_PAIRS < pairs < study.MAX_PAIRS

    def found(count, difference):
        gaps = rng.normal(difference, spread, (20000, count))
        return (stats.ttest_1samp(gaps, 0, axis=1).pvalue < 0.025).mean()

    assert found(pairs, 2) == pytest.approx(study.power(2, spread, pairs), abs=0.015)
    assert study.power(2, spread, pairs - 1) < 0.8 <= study.power(2, spread, pairs)
    assert found(60, study.smallest_found(9.0, 60) / 9 * spread) == pytest.approx(0.8, abs=0.015)
    assert study.pairs_needed(0.01) == 12 and study.pairs_needed(50) == 60


def test_upper_limit_holds_in_four_of_five():
    rng = np.random.default_rng(0)
    spreads = rng.normal(0, 2.0, (20000, 4)).std(1, ddof=1)
    limits = study.upper_limit(spreads, 4)
    assert (limits > 2).mean() == pytest.approx(0.8, abs=0.01)


def test_control_then_comparison(decision, tmp_path):
    seeds, first = study.confirm_seeds(0, decision), control_units(0, decision)
    assert seeds[0] == 200 and len(seeds) == decision['screen'][0]['pairs']
    assert first[0].regime == 'o12-2000'
    assert study.plan() == study.screen_units() + first
    for unit in first[:-1]:
        store(unit, AREA + (unit.arm == 'object') * (3 + unit.seed % 3))
    assert study.control(0, decision) is None
    assert 'Nothing may be concluded' in labels_report.report()
    assert f'{len(first) - 1} of {len(first)}' in labels_report.report()
    store(first[-1], AREA + 3)
    assert study.control(0, decision)['passed']
    assert '**confirmed**' in labels_report.report()
    second = study.confirm_units('o12-2000', ('tlalign', 'contribution'), seeds)
    assert study.plan() == study.screen_units() + first + second
    rng = np.random.default_rng(0)
    for unit in second:
        store(unit, AREA + 2 * (unit.arm == 'contribution') + rng.normal())
    text = labels_report.report()
    assert 'tlalign - area' in text and 'contribution - area' in text
    labels_report.draw(tmp_path / 'labels.png')
    assert cv2.imread(str(tmp_path / 'labels.png')).std() > 1 and 'labels.png' in text
    ceiling = next(line for line in text.splitlines() if line.startswith('| object | '))
    gap = np.mean([3 + seed % 3 for seed in seeds[:-1]] + [3])
    gain = [cell.split()[0] for cell in ceiling.split(' | ')[2:]]
    assert gain == [f'{gap:+.2f}', '1.00', f'{gap / 100:+.2f}', '+0.00']


def test_arms_of_a_seed_share_a_machine(decision):
    regime, seeds = 'o12-2000', study.confirm_seeds(0, decision)
    units = study.confirm_units(regime, study.ARMS, seeds)
    for unit in units:
        store(unit, AREA)
    units[2].file.write_text(json.dumps(dict(study.read(units[2]), device='GPU')))
    assert len(study.differences('confirm', regime, 'object', seeds)) == len(seeds)
    with pytest.raises(UserError, match='tlalign_seed200.* train one again'):
        study.differences('confirm', regime, 'tlalign', seeds)


def test_a_second_regime_and_then_the_end(decision):
    for attempt in range(2):
        units = control_units(attempt, decision)
        assert study.plan()[-len(units) :] == units
        for unit in units:  # level on average
            store(unit, AREA + (unit.arm == 'object') * (-1) ** unit.seed)
    assert study.confirm_seeds(1, decision)[0] == 400
    assert all(unit.file.is_file() for unit in study.plan())
    text = labels_report.report()
    assert text.count('not confirmed') == 2 and 'waits for a confirmed control' in text


def test_no_figure_is_told_before_a_stage_is_in():
    for unit in study.screen_units()[:-1]:
        store(unit, 12.34)
    text = labels_report.report()
    assert '23 of 24' in text and '12.34' not in text
    assert '- o12-2000: 7 of 8' in text


# What tools/train.py leaves.
TRAIN = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1], 'now')
(folder / 'vis_data').mkdir(parents=True)
(folder / 'vis_data/scalars.json').write_text('\\n'.join(map(json.dumps, [
    {'loss': 1., 'step': 60}, {'accuracy/top1': 41.5, 'step': 50},
    {'accuracy/top1': 61.25, 'step': 150}])))
(folder.parent / 'predictions.json').write_text(json.dumps(dict(images=[
    dict(label=0, predicted=predicted, score=.75, error=error)
    for predicted, error in ((0, .25), (1, 2.))])))
assert '--resume' in sys.argv and 'randomness.seed=101' in sys.argv
"""


def test_a_unit_is_trained_once_and_stored(tmp_path, monkeypatch):
    unit = study.Unit('screen', 'o8', 'object', 101)
    with pytest.raises(UserError, match='output.txt'):
        study.run(unit)  # there is no such file
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools/train.py').write_text(TRAIN)
    with trainings.hold(tmp_path / 'work_dirs/labels_study' / unit.name):
        assert not study.run(unit)  # another process is at it
    assert not unit.file.is_file()
    assert study.run(unit)
    stored = json.loads(unit.file.read_text())
    assert stored == study.read(unit) and stored['top1'] == 61.25
    assert stored['nll'] == 1.125 and stored['calibration_error'] == pytest.approx(0.25)
    assert stored['curve'] == {'50': 41.5, '150': 61.25}
    assert (stored['regime'], stored['arm'], stored['seed']) == ('o8', 'object', 101)
    before = unit.file.stat().st_mtime_ns
    assert study.run(unit) and unit.file.stat().st_mtime_ns == before
    monkeypatch.setattr(study.Unit, 'recipe', 'another')
    with pytest.raises(UserError, match='trained by another recipe'):
        study.read(unit)


def test_holm():
    assert labels_report.holm([0.01, 0.04]) == pytest.approx([0.02, 0.04])
    assert labels_report.holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert labels_report.holm([0.9, 0.8]) == [1, 1]


def test_recipes_of_regimes_differ_and_those_of_seeds_do_not(monkeypatch):
    monkeypatch.undo()
    *units, again = study.screen_units()[:7]
    confirm = study.Unit('confirm', 'o12', 'area', 200)
    assert len({unit.recipe for unit in (*units, confirm)}) == 7
    assert again.recipe == units[0].recipe  # the next seed
    assert 'val_dataloader.dataset.split=test' in confirm.options
