"""Draw what the units of docs/study hold: a picture for each backbone.

    python tools/analysis_tools/plot_study.py    # docs/study/<backbone>.png

Accuracy and the movement of shares by epoch, accuracy with patches dropped
and under FGSM. Lines are means over seeds, bands their standard deviation.
"""
import argparse
import json
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np

from mmtlalign.utils import UserError, one_line_errors

matplotlib.use('Agg')  # a picture in a file needs no display
from matplotlib import pyplot as plt  # noqa: E402

STUDY = Path(__file__).resolve().parents[2] / 'docs/study'
NAMES = dict(none='no mixing', cutmix='CutMix', tlalign='TL-Align')
COLOURS = dict(none='#888888', cutmix='#d07830', tlalign='#3070b0')


def read_units(folder: Path) -> dict[str, dict[str, list[dict]]]:
    """Backbone -> arm -> the pretraining of each seed.

    Raises:
        UserError: If there is no unit.
    """
    found = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob('*_seed*.json')):
        unit = json.loads(path.read_text())
        for name, job in unit['jobs'].items():
            task, arm = name.split('_')
            if task == 'cifar10':
                found[unit['backbone']][arm].append(job)
    if not found:
        raise UserError(f"'{folder}' holds no unit (<backbone>_seed<N>.json): "
                        'run tools/benchmarks/mini_study.py first')
    return found


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
    for backbone, arms in read_units(folder).items():
        path = folder / f'{backbone}.png'
        draw(backbone, arms).savefig(path, dpi=110)
        print(f'wrote {path}')


if __name__ == '__main__':
    with one_line_errors('plot_study.py'):
        main()
