"""Report what the units of the study hold: tables, and a picture for each backbone.

    python projects/mini_study/study_report.py

Writes ``report.md`` and ``<backbone>.png`` beside the units. The tables show figures by task and
arm, TL-Align against CutMix, and how the classifiers err; the pictures accuracy and the movement of
shares by epoch, accuracy with patches dropped and under FGSM, lines for means over seeds and bands
for their standard deviation.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

import matplotlib
import numpy as np
from scipy import stats

from mmtlalign.commands.command_line import new_parser
from mmtlalign.errors import UserError, one_line_errors

matplotlib.use('Agg')  # a picture in a file needs no display
from matplotlib import pyplot as plt

STUDY = Path(__file__).resolve().parent / 'results'
TASKS = dict(cifar10='CIFAR-10, top-1, %', bccd='BCCD, box AP, %', camvid='CamVid, mIoU, %')
NAMES = dict(none='no mixing', cutmix='CutMix', tlalign='TL-Align')
ARMS = dict(random='random weights', **NAMES)
COLOURS = dict(none='#888888', cutmix='#d07830', tlalign='#3070b0')


def read_units(folder: Path) -> dict[tuple[str, str, str], dict[int, dict]]:
    """(task, backbone, arm) -> seed -> the job that trained it, in the order of the tables.

    Raises:
        UserError: If there is no unit, or one is damaged; if seeds of one
            arm had different recipes.
    """
    table = {}
    for path in sorted(folder.glob('*_seed*.json')):
        try:
            unit = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(
                f"unit '{path}' is no JSON ({error}): get it again"
                ', or remove it and train its seed anew'
            ) from None
        for name, job in unit['jobs'].items():
            task, arm = name.split('_')
            table.setdefault((task, unit['backbone'], arm), {})[unit['seed']] = job
    if not table:
        raise UserError(
            f"'{folder}' holds no unit (<backbone>_seed<N>.json): "
            'run projects/mini_study/mini_study.py first'
        )
    for key, jobs in table.items():
        recipes = {job['config_hash'] for job in jobs.values()}
        if len(recipes) > 1:
            raise UserError(
                f'{" ".join(key)}: seeds {sorted(jobs)} were trained by different recipes '
                f'{sorted(recipes)}; a mean over them says nothing'
            )
    return {
        (task, backbone, arm): table[task, backbone, arm]
        for task in TASKS
        for backbone in sorted({backbone for _, backbone, _ in table})
        for arm in ARMS
        if (task, backbone, arm) in table
    }


def row(*cells: str) -> str:
    """Of a table in Markdown."""
    return f'| {" | ".join(cells)} |'


def head(*names: str) -> str:
    return f'{row(*names)}\n{"|---" * len(names)}|'


def mean_and_spread(values: list[float]) -> str:
    """Mean and, of several, their standard deviation."""
    spread = f' ± {np.std(values, ddof=1):.2f}' if len(values) > 1 else ''
    return f'{np.mean(values):.2f}{spread}'


def paired_gaps(first: dict, second: dict, read: Callable = itemgetter('final')) -> np.ndarray:
    """Differences of what is read of jobs, of every seed both have; in percent, in the end."""
    seeds = sorted(first.keys() & second.keys())
    return np.array([read(first[seed]) - read(second[seed]) for seed in seeds])


def interval(gaps: np.ndarray) -> str:
    """Mean with its 95 % t interval."""
    if len(gaps) < 2:
        return f'{gaps[0]:+.2f}' if len(gaps) else ''
    half = stats.t.ppf(0.975, len(gaps) - 1) * stats.sem(gaps)
    return f'{round(gaps.mean(), 2) + 0:+.2f} ± {half:.2f}'  # no -0.00


def bootstrap_interval(first: dict, second: dict) -> str:
    """95 % of the mean difference when images are drawn anew; the seeds
    stay, so it says nothing about other trainings."""
    gaps = [
        np.subtract(*(np.array(arm[seed]['redrawn'].split(), float) for arm in (first, second)))
        for seed in sorted(first.keys() & second.keys())
    ]
    low, high = np.percentile(np.mean(gaps, axis=0), [2.5, 97.5])
    return f'{low:+.2f} to {high:+.2f}'


STATE = """# Results of the study

Written by `python projects/mini_study/mini_study.py --report`; what they mean is in
[README.md](../README.md).
"""
DIFFERENCES = """## TL-Align minus CutMix

Pairs share their seed; the 95 % t interval is over seeds. The bootstrap draws the
test images anew, 1000 times, and keeps the seeds: it says nothing about other
trainings.

| task | backbone | every pair | mean, 95 % t interval over seeds | bootstrap over images |
|---|---|---|---|---|"""
ERRORS = """## How the classifiers err

Mean confidence and calibration error, then top-1 of clean test images, with a part
of their patches dropped, and under FGSM; in percent, mean ± standard deviation over
seeds; the difference with its 95 % t interval over seeds.
"""


def state_rows(table: dict) -> Iterator[str]:
    """Which units have ended."""
    yield STATE
    for (task, backbone, arm), jobs in table.items():
        if (task, arm) == ('cifar10', 'tlalign'):
            yield f'- {backbone}: seeds {", ".join(map(str, sorted(jobs)))}'


def accuracy_rows(table: dict) -> Iterator[str]:
    """Every task, backbone and arm."""
    yield '## After the last epoch\n'
    yield 'Mean ± standard deviation over seeds (number of seeds).\n'
    yield head('task', 'backbone', *ARMS.values())
    figures = defaultdict(lambda: dict.fromkeys(ARMS, ''))
    for (task, backbone, arm), jobs in table.items():
        figure = mean_and_spread([job['final'] for job in jobs.values()])
        figures[task, backbone][arm] = f'{figure} ({len(jobs)})'
    for (task, backbone), arms in figures.items():
        yield row(TASKS[task], backbone, *arms.values())


def difference_rows(table: dict) -> Iterator[str]:
    """The question of the study."""
    yield DIFFERENCES
    for (task, backbone, arm), jobs in table.items():
        other = table.get((task, backbone, 'cutmix'))
        if arm == 'tlalign' and other:
            gaps = paired_gaps(jobs, other)
            pairs = ' '.join(map('{:+.2f}'.format, gaps))
            bootstrap = bootstrap_interval(jobs, other)
            yield row(TASKS[task], backbone, pairs, interval(gaps), bootstrap)


def disturbances(job: dict) -> dict[str, float]:
    """Confidence, calibration error, and top-1 of disturbed images, in percent."""
    found = job['robustness']
    errors = {'calibration error': found['calibration_error']}
    return dict(confidence=found['confidence'], **errors, **found['top1'])


def diagnosis_rows(table: dict) -> Iterator[str]:
    """How the classifiers err."""
    found = {
        key: {seed: disturbances(job) for seed, job in jobs.items()}
        for key, jobs in table.items()
        if all('robustness' in job for job in jobs.values())
    }
    if not found:
        return
    columns = dict.fromkeys(name for arm in found.values() for job in arm.values() for name in job)
    yield ERRORS
    yield head('backbone', 'arm', *columns)
    for (task, backbone, arm), jobs in found.items():
        values = [mean_and_spread([job[name] for job in jobs.values()]) for name in columns]
        yield row(backbone, NAMES[arm], *values)
        other = found.get((task, backbone, 'cutmix'))
        if arm == 'tlalign' and other:
            gaps = [interval(paired_gaps(jobs, other, itemgetter(name))) for name in columns]
            yield row(backbone, 'TL-Align minus CutMix', *gaps)


def write_tables(table: dict) -> str:
    """All of the report but its pictures, in Markdown."""
    return '\n'.join(
        '\n'.join(rows(table)) + '\n'
        for rows in (state_rows, accuracy_rows, difference_rows, diagnosis_rows)
    )


def by_strength(job: dict, kind: str) -> list[tuple[float, float]]:
    """Top-1 by the strength of a disturbance, the clean images at 0.

    Args:
        job (dict): Of a unit.
        kind (str): 'drop' or 'fgsm', as in 'drop 0.25' and 'fgsm 1/255'.
    """
    top1 = job['robustness']['top1']
    points = [(0.0, top1['clean'])]
    for name, value in top1.items():
        if name.startswith(kind):
            points.append((float(name.split()[1].partition('/')[0]), value))
    return points


# Title, label below, label beside, and what to draw of a job.
PANELS = (
    ('validation', 'epoch', 'top-1, %', lambda job: job['curve']),
    ('movement of labels', 'epoch', 'mean |share - lam|', lambda job: job['fluctuation']),
    ('patches dropped', 'part of the patches', 'top-1, %', lambda job: by_strength(job, 'drop')),
    ('FGSM', 'strength, in 255ths', 'top-1, %', lambda job: by_strength(job, 'fgsm')),
)


def draw(backbone: str, arms: dict[str, list[dict]]) -> plt.Figure:
    """Four panels, a line for each arm."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4))
    for ax, (title, below, beside, points_of) in zip(axes.flat, PANELS):
        for arm in filter(arms.get, NAMES):
            lines = [points for job in arms[arm] if (points := points_of(job))]
            if lines:
                add_line(ax, arm, np.array(lines, dtype=float))
        ax.set(title=title, xlabel=below, ylabel=beside)
        ax.spines[['top', 'right']].set_visible(False)
    axes[0, 0].legend(frameon=False)
    seeds = ', '.join(f'{NAMES[arm]} {len(arms[arm])}' for arm in NAMES if arms.get(arm))
    figure.suptitle(f'{backbone}; seeds: {seeds}', fontsize='medium')
    figure.tight_layout()
    return figure


def add_line(ax: plt.Axes, arm: str, lines: np.ndarray) -> None:
    """Mean and standard deviation of lines (seeds, points, x and y)."""
    x, y = lines[0, :, 0], lines[..., 1]
    ax.plot(x, y.mean(0), marker='.', color=COLOURS[arm], label=NAMES[arm])
    if len(y) > 1:
        low, high = y.mean(0) - y.std(0, ddof=1), y.mean(0) + y.std(0, ddof=1)
        ax.fill_between(x, low, high, color=COLOURS[arm], alpha=0.2, linewidth=0)


def write_report(folder: Path) -> None:
    """The tables and the pictures, beside the units."""
    table = read_units(folder)
    path = folder / 'report.md'
    path.write_text(write_tables(table))
    print(f'wrote {path}')
    for backbone in dict.fromkeys(backbone for _, backbone, _ in table):
        path = folder / f'{backbone}.png'
        arms = {arm: [*table.get(('cifar10', backbone, arm), {}).values()] for arm in NAMES}
        draw(backbone, arms).savefig(path, dpi=110)
        print(f'wrote {path}')


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument('--folder', type=Path, default=STUDY, help='of the units and the pictures')
    write_report(parser.parse_args().folder)


if __name__ == '__main__':
    with one_line_errors('study_report.py'):
        main()
