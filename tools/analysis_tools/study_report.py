"""Report what the units of docs/study hold: tables, and a picture for each
backbone.

    python tools/analysis_tools/study_report.py    # docs/study/<backbone>.png

The tables are printed as Markdown: figures by task and arm, TL-Align against
CutMix, and how the classifiers err. The pictures show accuracy and the
movement of shares by epoch, accuracy with patches dropped and under FGSM;
lines are means over seeds, bands their standard deviation.
"""
import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from scipy import stats

from mmtlalign.utils import UserError, one_line_errors

matplotlib.use('Agg')  # a picture in a file needs no display
from matplotlib import pyplot as plt  # noqa: E402

STUDY = Path(__file__).resolve().parents[2] / 'docs/study'
UNITS = dict(cifar10='top-1, %', bccd='box AP, %', camvid='mIoU, %')
NAMES = dict(none='no mixing', cutmix='CutMix', tlalign='TL-Align')
COLOURS = dict(none='#888888', cutmix='#d07830', tlalign='#3070b0')


def read_units(folder: Path) -> dict[tuple[str, str, str], dict[int, dict]]:
    """(task, backbone, arm) -> seed -> the job that trained it.

    Raises:
        UserError: If there is no unit; if seeds of one arm had different
            recipes.
    """
    table = {}
    for path in sorted(folder.glob('*_seed*.json')):
        unit = json.loads(path.read_text())
        for name, job in unit['jobs'].items():
            task, arm = name.split('_')
            table.setdefault((task, unit['backbone'], arm), {})[
                unit['seed']] = job
    if not table:
        raise UserError(f"'{folder}' holds no unit (<backbone>_seed<N>.json): "
                        'run tools/benchmarks/mini_study.py first')
    for key, jobs in table.items():
        recipes = {job['config_hash'] for job in jobs.values()}
        if len(recipes) > 1:
            raise UserError(f'{" ".join(key)}: seeds {sorted(jobs)} were '
                            f'trained by different recipes {sorted(recipes)};'
                            ' a mean over them says nothing')
    return dict(sorted(table.items()))


def paired_interval(first: dict, second: dict) -> tuple[str, int]:
    """Mean difference over common seeds with its 95 % t interval."""
    seeds = sorted(first.keys() & second.keys())
    gaps = np.array([first[s]['final'] - second[s]['final'] for s in seeds])
    if len(gaps) < 2:
        return (f'{gaps[0]:+.2f}' if len(gaps) else '', len(gaps))
    half = stats.t.ppf(.975, len(gaps) - 1) * stats.sem(gaps)
    return f'{gaps.mean():+.2f} +- {half:.2f}', len(gaps)


def unpack_hits(text: str) -> np.ndarray:
    """Which images were right, an array of 0 and 1, from hexadecimal digits
    and their number."""
    digits, count = text.split(':')
    return np.unpackbits(np.frombuffer(
        bytes.fromhex(digits), np.uint8))[:int(count)]


def bootstrap_interval(first: dict, second: dict) -> str:
    """95 % of the mean difference when images are drawn anew; the seeds
    stay, so it says nothing about other trainings."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds or 'right' not in first[seeds[0]]:
        return ''
    gaps = np.mean([
        unpack_hits(first[s]['right']).astype(float)
        - unpack_hits(second[s]['right']) for s in seeds], axis=0)
    draws = np.random.default_rng(0).integers(
        len(gaps), size=(2000, len(gaps)))
    low, high = np.percentile(100 * gaps[draws].mean(axis=1), [2.5, 97.5])
    return f'{low:+.2f} to {high:+.2f}'


def accuracy_rows(table: dict) -> Iterator[str]:
    """Every task, backbone and arm."""
    yield '| task | backbone | arm | seeds | mean | SD |'
    yield '|---|---|---|---|---|---|'
    for (task, backbone, arm), jobs in table.items():
        finals = np.array([jobs[seed]['final'] for seed in sorted(jobs)])
        spread = f'{finals.std(ddof=1):.2f}' if len(finals) > 1 else ''
        yield (f'| {task}, {UNITS[task]} | {backbone} | {arm} | '
               f'{", ".join(map(str, sorted(jobs)))} | {finals.mean():.2f} | '
               f'{spread} |')


def difference_rows(table: dict) -> Iterator[str]:
    """The question of the study."""
    yield ('| task | backbone | TL-Align minus CutMix (95 % t interval over '
           'seeds) | pairs | bootstrap over images, seeds fixed |')
    yield '|---|---|---|---|---|'
    for task, backbone, arm in table:
        other = table.get((task, backbone, 'cutmix'))
        if arm == 'tlalign' and other:
            gap, pairs = paired_interval(table[task, backbone, arm], other)
            images = bootstrap_interval(table[task, backbone, arm], other)
            yield (f'| {task}, {UNITS[task]} | {backbone} | {gap} | '
                   f'{pairs} | {images} |')


def diagnosis_rows(table: dict) -> Iterator[str]:
    """How the classifiers err, means over seeds, in percent."""
    columns = None
    for (_, backbone, arm), jobs in table.items():
        found = [job['robustness'] for job in jobs.values()
                 if 'robustness' in job]
        if not found:
            continue
        if columns is None:
            columns = list(found[0]['top1'])
            yield ('| backbone | arm | seeds | calibration error | '
                   + ' | '.join(columns) + ' |')
            yield '|---' * (4 + len(columns)) + '|'
        means = [np.mean([one['calibration_error'] for one in found])] + [
            np.mean([one['top1'][name] for one in found]) for name in columns]
        yield (f'| {backbone} | {arm} | {len(found)} | '
               + ' | '.join(f'{mean:.2f}' for mean in means) + ' |')


def by_strength(job: dict, kind: str) -> list[tuple[float, float]]:
    """Top-1 by the strength of a disturbance, the clean images at 0.

    Args:
        job (dict): Of a unit.
        kind (str): 'drop' or 'fgsm', as in 'drop 0.25' and 'fgsm 1/255'.
    """
    top1 = job['robustness']['top1']
    return [(0., top1['clean'])] + [
        (float(name.split()[1].partition('/')[0]), value)
        for name, value in top1.items() if name.startswith(kind)]


# Title, label below, label beside, and what to draw of a job.
PANELS = (
    ('validation', 'epoch', 'top-1, %', lambda job: job['curve']),
    ('movement of labels', 'epoch', 'mean |share - lam|',
     lambda job: job['fluctuation']),
    ('patches dropped', 'part of the patches', 'top-1, %',
     lambda job: by_strength(job, 'drop')),
    ('FGSM', 'strength, in 255ths', 'top-1, %',
     lambda job: by_strength(job, 'fgsm')),
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
    seeds = ', '.join(f'{NAMES[arm]} {len(arms[arm])}'
                      for arm in NAMES if arms.get(arm))
    figure.suptitle(f'{backbone}; seeds: {seeds}', fontsize='medium')
    figure.tight_layout()
    return figure


def add_line(ax: plt.Axes, arm: str, lines: np.ndarray) -> None:
    """Mean and standard deviation of lines (seeds, points, x and y)."""
    x, y = lines[0, :, 0], lines[..., 1]
    ax.plot(x, y.mean(0), marker='.', color=COLOURS[arm], label=NAMES[arm])
    if len(y) > 1:
        spread = y.std(0, ddof=1)
        ax.fill_between(x, y.mean(0) - spread, y.mean(0) + spread,
                        color=COLOURS[arm], alpha=.2, linewidth=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', type=Path, default=STUDY,
                        help='of the units and the pictures')
    folder = parser.parse_args().folder
    table = read_units(folder)
    for rows in accuracy_rows, difference_rows, diagnosis_rows:
        print('\n'.join(rows(table)), end='\n\n')
    for backbone in dict.fromkeys(backbone for _, backbone, _ in table):
        path = folder / f'{backbone}.png'
        draw(backbone, {
            arm: list(table['cifar10', backbone, arm].values())
            for arm in NAMES if ('cifar10', backbone, arm) in table
        }).savefig(path, dpi=110)
        print(f'wrote {path}')


if __name__ == '__main__':
    with one_line_errors('study_report.py'):
        main()
