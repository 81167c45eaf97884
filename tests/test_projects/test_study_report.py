"""The study's pictures, from units whose figures are known."""

import json

import cv2
import numpy as np
import pytest
import study_report
from scipy import stats

from mmtlalign.errors import UserError

from ..tiny import ROOT


def job(value, fluctuation=((1, 0.01), (2, 0.02))):
    top1 = {'clean': value, 'drop 0.25': value - 5, 'drop 0.5': value - 9}
    top1 |= {'fgsm 1/255': value / 2, 'fgsm 2/255': value / 4}
    return dict(
        config_hash='a',
        curve=[[4, value], [8, value + 10]],
        fluctuation=fluctuation,
        final=value + 10,
        redrawn=' '.join(str(value + 10 + step) for step in range(-20, 21)),
        robustness=dict(confidence=40.0, calibration_error=3.0, top1=top1),
    )


def write(folder, seed, **jobs):
    unit = dict(backbone='deit-mini', seed=seed, jobs=jobs)
    (folder / f'deit-mini_seed{seed}.json').write_text(json.dumps(unit))


@pytest.fixture
def units(tmp_path):
    """Two seeds of two arms, one of no mixing."""
    dense = dict(final=1.0, config_hash='b')
    write(
        tmp_path,
        0,
        cifar10_tlalign=job(50),
        cifar10_cutmix=job(48),
        cifar10_none=job(40, []),
        bccd_tlalign=dense,
    )
    write(tmp_path, 1, cifar10_tlalign=job(54), cifar10_cutmix=job(48), bccd_tlalign=dense)
    return tmp_path


def test_units_that_are_no_use_are_named(units, tmp_path):
    path = units / 'deit-mini_seed1.json'
    sound = path.read_text()
    told = r"cifar10 deit-mini tlalign: seeds \[0, 1\] were .* different recipes \['a', 'other'\]"
    for text, said in (
        (sound[:100], r"unit '.*_seed1\.json' is no JSON"),
        (sound.replace('"a"', '"other"'), told),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            study_report.read_units(units)
    with pytest.raises(UserError, match='holds no unit .*mini_study.py'):
        study_report.read_units(tmp_path / 'empty')


def test_lines_are_means_over_seeds(units):
    table = study_report.read_units(units)
    arms = {arm: list(jobs.values()) for (task, _, arm), jobs in table.items() if task == 'cifar10'}
    figure = study_report.draw('deit-mini', arms)
    lines = [
        {line.get_label(): np.column_stack(line.get_data()).tolist() for line in ax.get_lines()}
        for ax in figure.axes
    ]
    assert lines[0] == {
        'no mixing': [[4, 40], [8, 50]],
        'CutMix': [[4, 48], [8, 58]],
        'TL-Align': [[4, 52], [8, 62]],
    }
    assert set(lines[1]) == {'CutMix', 'TL-Align'}  # nothing moves unmixed
    assert lines[2]['TL-Align'] == [[0, 52], [0.25, 47], [0.5, 43]]
    assert lines[3]['TL-Align'] == [[0, 52], [1, 26], [2, 13]]
    # two seeds have a band, one has none
    assert len(figure.axes[0].collections) == 2
    assert 'no mixing 1, CutMix 2, TL-Align 2' in figure.get_suptitle()


@pytest.mark.slow
def test_tables_and_a_picture_for_each_backbone(units, capsys):
    study_report.write_report(units)
    assert cv2.imread(str(units / 'deit-mini.png')).std() > 0
    written = capsys.readouterr().out
    assert str(units / 'deit-mini.png') in written and str(units / 'report.md') in written
    text = (units / 'report.md').read_text()
    for line in (
        '\n- deit-mini: seeds 0, 1\n',
        '| CIFAR-10, top-1, % | deit-mini |  | 50.00 (1) | 58.00 ± 0.00 (2) | 62.00 ± 2.83 (2) |\n',
        '| BCCD, box AP, % | deit-mini |  |  |  | 1.00 ± 0.00 (2) |\n',
        '| backbone | arm | confidence | calibration error | clean | drop 0.25',
        '| deit-mini | TL-Align | 40.00 ± 0.00 | 3.00 ± 0.00 | 52.00 ± 2.83 | 47.00',
        # both arms on the same draws: the mean of the gaps 2 and 6, without spread
        '| +4.00 ± 25.41 | +4.00 to +4.00 |',
        # the gaps are 2 and 6: 4 and 12.71 (t of one degree) times 2
        '| deit-mini | TL-Align minus CutMix | +0.00 ± 0.00 | +0.00 ± 0.00 | +4.00 ± 25.41 |',
    ):
        assert line in text


def test_the_report_is_of_the_units_beside_it():
    """Remedy: python projects/mini_study/mini_study.py --report."""
    folder = ROOT / 'projects/mini_study/results'
    text = study_report.write_tables(study_report.read_units(folder))
    assert text == (folder / 'report.md').read_text()


def test_differences_and_their_intervals(tmp_path):
    rng = np.random.default_rng(0)
    finals, hits = rng.normal(50, 2, (2, 4)), rng.integers(2, size=(2, 4, 40))
    redrawn = 100 * hits[..., rng.integers(40, size=(1000, 40))].mean(-1)
    for seed in range(4):
        jobs = {
            f'cifar10_{arm}': dict(
                config_hash=arm, final=finals[i, seed], redrawn=' '.join(map(str, redrawn[i, seed]))
            )
            for i, arm in enumerate(('tlalign', 'cutmix'))
        }
        write(tmp_path, seed, **jobs)
    *_, text = study_report.difference_rows(study_report.read_units(tmp_path))
    expected = stats.ttest_rel(*finals).confidence_interval()
    middle, half = map(float, text.split('|')[4].split('±'))
    assert middle - half == pytest.approx(expected.low, abs=0.01)
    assert middle + half == pytest.approx(expected.high, abs=0.01)
    assert text.split('|')[3].split() == [f'{gap:+.2f}' for gap in finals[0] - finals[1]]
    low, high = map(float, text.split('|')[-2].split(' to '))
    gaps = 100 * (hits[0] - hits[1]).mean(0)
    assert low < gaps.mean() < high
    # the normal approximation of the same
    assert high - low == pytest.approx(2 * 1.96 * gaps.std() / 40**0.5, rel=0.1)
