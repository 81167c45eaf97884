"""What may be told of the second study, from the units that are in.

    python projects/mini_study/labels_study.py --report

A stage is told when all of its units are in; until then only their number, as
PROTOCOL2.md asks.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import labels_study as study
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from study_report import head, interval, mean_and_spread, row

INTRODUCTION = """# Labels that follow the content: where the study stands

Written by `python projects/mini_study/labels_study.py --report`; the rules are in
[PROTOCOL2.md](PROTOCOL2.md).
"""

PICTURE = """![Differences of all seeds, arm by arm, with their means and 95 % intervals, on a line
from labels by area](results/labels.png)"""


def report() -> str:
    """In Markdown."""
    lines = [INTRODUCTION, *screen_lines(), *control_lines(), *primary_lines()]
    if all_in():
        lines += ['', PICTURE]
    return '\n'.join(lines).rstrip() + '\n'


def count(units: list) -> str:
    """How many of them are in."""
    return f'{sum(unit.file.is_file() for unit in units)} of {len(units)}'


def screen_lines() -> Iterator[str]:
    """Which regime tells labels apart best."""
    units = study.screen_units()
    yield f'## Screen: {count(units)} units are in\n'
    if not study.DECISION.is_file():
        for regime in study.REGIMES:
            yield f'- {regime}: {count([unit for unit in units if unit.regime == regime])}'
        yield '\nNothing may be concluded: regimes are ranked when all are in.\n'
        return
    heads = 'regime | object - area, points | standard deviation | rank | pairs needed | they find'
    row = '| {regime} | {mean:+.2f} | {sd:.2f} | {rank:.2f} | {pairs} | {smallest:.2f} |'
    yield f'| {heads} |'
    yield '|---|---|---|---|---|---|'
    for found in json.loads(study.DECISION.read_text())['screen']:
        yield row.format(**found)
    yield ''


def control_lines() -> Iterator[str]:
    """Whether true labels beat the area."""
    yield '## Control: object against area\n'
    tried = list(study.tried())
    if not tried:
        ended = 'True labels were ahead in no regime of the screen: the study ends here.\n'
        yield ended if study.DECISION.is_file() else 'It waits for the screen.\n'
    for attempt, regime, seeds, result in tried:
        if result is None:
            yield waiting(regime, ('area', 'object'), seeds)
        else:
            verdict = 'confirmed' if result['passed'] else 'not confirmed'
            yield (
                f'{regime}, {len(seeds)} pairs: {interval(result["gaps"])} points, one-sided '
                f'p = {result["p"]:.2g}, level {study.LEVELS[attempt]}: **{verdict}**.\n'
            )


def compared() -> list[tuple[str, range]]:
    """Regime and seeds of the comparison, if there is one: where the control is confirmed."""
    return [
        (regime, seeds)
        for *_, regime, seeds, result in study.tried()
        if result and result['passed']
    ]


def all_in() -> bool:
    """Whether the comparison is complete."""
    units = (study.confirm_units(regime, study.ARMS, seeds) for regime, seeds in compared())
    return any(all(unit.file.is_file() for unit in found) for found in units)


def primary_lines() -> Iterator[str]:
    """The two comparisons, with Holm's correction."""
    yield '## Primary comparison\n'
    confirmed = compared()
    if not confirmed:
        yield 'It waits for a confirmed control.\n'
        return
    regime, seeds = confirmed[0]
    if not all_in():
        yield waiting(regime, study.COMPARED, seeds)
        return
    gaps = {arm: study.differences('confirm', regime, arm, seeds) for arm in study.COMPARED}
    adjusted = holm([stats.ttest_1samp(values, 0).pvalue for values in gaps.values()])
    yield "| difference | points, 95 % t interval | p after Holm's |"
    yield '|---|---|---|'
    for (arm, values), p in zip(gaps.items(), adjusted):
        yield f'| {arm} - area | {interval(values)} | {p:.4f} |'
    yield from exploratory_lines(regime, seeds)


def exploratory_lines(regime: str, seeds: range) -> Iterator[str]:
    """Every arm, and what else can be read of it; descriptive."""
    yield '\n## Exploratory\n'
    columns = 'top-1, %', 'less that of area', "part of object's gain"
    yield head('arm', *columns, 'log-likelihood - area', 'calibration error - area, points')
    gain = study.differences('confirm', regime, 'object', seeds).mean()
    for arm in study.ARMS:
        units = study.confirm_units(regime, (arm,), seeds)
        values = [study.read(unit)['top1'] for unit in units]
        top1, nll, error = (
            study.differences('confirm', regime, arm, seeds, figure)
            for figure in ('top1', 'nll', 'calibration_error')
        )
        cells = [mean_and_spread(values), interval(top1), f'{top1.mean() / gain:.2f}']
        yield row(arm, *cells, interval(-nll), interval(100 * error))


def draw(path: Path) -> None:
    """Differences of all seeds of the comparison, their means and 95 % t intervals."""
    regime, seeds = compared()[0]
    arms = [arm for arm in study.ARMS if arm != 'area']
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout='constrained')
    for place, arm in enumerate(arms):
        gaps = np.sort(study.differences('confirm', regime, arm, seeds))
        spread = np.linspace(-0.25, 0.25, len(gaps))  # so that points do not hide one another
        axes.plot(gaps, place + spread, 'o', color='tab:gray', alpha=0.5, markersize=4)
        half = stats.t.ppf(0.975, len(gaps) - 1) * stats.sem(gaps)
        axes.errorbar(gaps.mean(), place, xerr=half, fmt='o', color='tab:red', capsize=4)
    axes.axvline(0, color='black', linewidth=0.8)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set_xlabel(f'top-1 less that of area, points ({len(seeds)} seeds; mean, 95 % interval)')
    figure.savefig(path, dpi=120)
    plt.close(figure)


def waiting(regime: str, arms: tuple[str, ...], seeds: range) -> str:
    units = study.confirm_units(regime, arms, seeds)
    return f'{regime}: {count(units)} units are in. Nothing may be concluded until all are.\n'


def holm(pvalues: list[float]) -> list[float]:
    """Adjusted by Holm's step-down procedure, in the order given."""
    adjusted, largest = [0.0] * len(pvalues), 0.0
    for step, index in enumerate(np.argsort(pvalues)):
        largest = max(largest, (len(pvalues) - step) * pvalues[index])
        adjusted[index] = min(largest, 1.0)
    return adjusted
