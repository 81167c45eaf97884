"""What may be told of the second study, from the units that are in.

    python projects/mini_study/labels_study.py --report

A stage is told when all of its units are in; until then only their number, as
PROTOCOL2.md asks.
"""

import json
from collections.abc import Iterator

import labels_study as study
import numpy as np
from scipy import stats


def report() -> str:
    """In Markdown."""
    return (
        '\n'.join(
            [
                '# Labels that follow the content: where the study stands\n',
                'Written by `python projects/mini_study/labels_study.py --report`; '
                'the rules are in\n[PROTOCOL2.md](PROTOCOL2.md).\n',
                *screen_lines(),
                *control_lines(),
                *primary_lines(),
            ]
        ).rstrip()
        + '\n'
    )


def count(units) -> str:
    """How many of them are in."""
    units = list(units)
    return f'{sum(u.file.is_file() for u in units)} of {len(units)}'


def screen_lines() -> Iterator[str]:
    """Which regime tells labels apart best."""
    units = study.screen_units()
    yield f'## Screen: {count(units)} units are in\n'
    if not study.DECISION.is_file():
        for regime in study.REGIMES:
            of_regime = [u for u in units if u.regime == regime]
            yield f'- {regime}: {count(of_regime)}'
        yield ('\nNothing may be concluded: regimes are ranked when all are in.\n')
        return
    yield (
        '| regime | object - area, points | standard deviation | rank | pairs needed | they find |'
    )
    yield '|---|---|---|---|---|---|'
    for row in json.loads(study.DECISION.read_text())['screen']:
        yield (
            f'| {row["regime"]} | {row["mean"]:+.2f} | {row["sd"]:.2f} | '
            f'{row["rank"]:.2f} | {row["pairs"]} | '
            f'{row["smallest"]:.2f} |'
        )
    yield ''


def control_lines() -> Iterator[str]:
    """Whether true labels beat the area."""
    yield '## Control: object against area\n'
    if not study.DECISION.is_file():
        yield 'It waits for the screen.\n'
        return
    decision = json.loads(study.DECISION.read_text())
    if not decision['tries']:
        yield ('True labels were ahead in no regime of the screen: the study ends here.\n')
    for attempt, regime in enumerate(decision['tries']):
        seeds = study.confirm_seeds(attempt, decision)
        units = study.confirm_units(regime, ('area', 'object'), seeds)
        result = study.control(attempt, decision)
        if result is None:
            yield (
                f'{regime}: {count(units)} units are in. Nothing may be concluded until all are.\n'
            )
            return
        verdict = 'confirmed' if result['passed'] else 'not confirmed'
        yield (
            f'{regime}, {len(seeds)} pairs: {interval(result["gaps"])} '
            f'points, one-sided p = {result["p"]:.4f}, level '
            f'{study.LEVELS[attempt]}: **{verdict}**.\n'
        )
        if result['passed']:
            return


def primary_lines() -> Iterator[str]:
    """The two comparisons, with Holm's correction."""
    yield '## Primary comparison\n'
    regime, seeds = confirmed()
    if regime is None:
        yield 'It waits for a confirmed control.\n'
        return
    units = study.confirm_units(regime, study.COMPARED, seeds)
    if not all(unit.file.is_file() for unit in units):
        yield (f'{regime}: {count(units)} units are in. Nothing may be concluded until all are.\n')
        return
    gaps = {arm: study.differences('confirm', regime, arm, seeds) for arm in study.COMPARED}
    adjusted = holm([stats.ttest_1samp(g, 0).pvalue for g in gaps.values()])
    yield "| difference | points, 95 % t interval | p after Holm's |"
    yield '|---|---|---|'
    for (arm, values), p in zip(gaps.items(), adjusted):
        yield f'| {arm} - area | {interval(values)} | {p:.4f} |'
    yield ''


def confirmed() -> tuple[str | None, range]:
    """The regime whose control is confirmed, and its seeds."""
    if study.DECISION.is_file():
        decision = json.loads(study.DECISION.read_text())
        for attempt, regime in enumerate(decision['tries']):
            result = study.control(attempt, decision)
            if result and result['passed']:
                return regime, study.confirm_seeds(attempt, decision)
    return None, range(0)


def interval(gaps: np.ndarray) -> str:
    """Mean with its 95 % t interval."""
    half = stats.t.ppf(0.975, len(gaps) - 1) * stats.sem(gaps)
    return f'{gaps.mean():+.2f} ± {half:.2f}'


def holm(pvalues: list[float]) -> list[float]:
    """Adjusted by Holm's step-down procedure, in the order given."""
    adjusted, largest = [0.0] * len(pvalues), 0.0
    for step, index in enumerate(np.argsort(pvalues)):
        largest = max(largest, (len(pvalues) - step) * pvalues[index])
        adjusted[index] = min(largest, 1.0)
    return adjusted
