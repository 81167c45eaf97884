"""Do labels that follow the content help? The second study's runner.

    python projects/mini_study/labels_study.py            goes on
    python projects/mini_study/labels_study.py --report   labels_report.md

What is trained, in which order, and what is concluded when, is written down in
PROTOCOL2.md. A unit is one regime, arm and seed: one training by
tools/train.py, which resumes after a kill, and one small file under units/,
which counts as done from then on, on any machine: commit it. A GPU is used
where there is one. Several processes may run at once, each takes units that no
other is at; `--stage screen` ends after it. Arms of a seed must be trained by
machines of one kind; stacked.py trains many seeds at once on a GPU.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import torch
from mmengine.config import Config
from scipy import optimize, stats
from trainings import ROOT, BusyError, hold, progress_bar, read_cpu_seconds, run_held, write

from mmtlalign.commands.command_line import new_parser
from mmtlalign.engine.hooks.keep_predictions import PREDICTIONS
from mmtlalign.errors import UserError, one_line_errors
from mmtlalign.evaluation.robustness import calibration_error

HERE = Path(__file__).resolve().parent
UNITS, DECISION = HERE / 'units', HERE / 'decision.json'

# What tells a regime from the recipe in configs/classification/planted.
REGIMES = dict(
    o12=dict(image=24, object=12, images=1000, epochs=150),
    o8=dict(image=24, object=8, images=1000, epochs=150),
    **{'o12-2000': dict(image=24, object=12, images=2000, epochs=75)},
)
ARMS = dict(area='cutmix', object='object', tlalign='tlalign', contribution='contribution')
COMPARED = ('tlalign', 'contribution')
RECIPE = ('model', 'data_preprocessor', 'train_dataloader', 'val_dataloader')
RECIPE += ('optim_wrapper', 'param_scheduler', 'train_cfg')
SCREEN_SEEDS = range(100, 104)
FIRST_SEEDS = (200, 400)  # of the control, and of a second try
LEVELS = (0.05, 0.025)  # one-sided, likewise
MATTERS, MIN_PAIRS, MAX_PAIRS = 2.0, 12, 60


class Unit(NamedTuple):
    """One training."""

    stage: str  # 'screen' or 'confirm'
    regime: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f'{self.stage}_{self.regime}_{self.arm}_seed{self.seed}'

    @property
    def file(self) -> Path:
        return UNITS / f'{self.name}.json'

    @property
    def config(self) -> str:
        name = f'{ARMS[self.arm]}_deit-micro_1xb50-150e_planted-24px'
        return f'configs/classification/planted/{name}.py'

    @property
    def options(self) -> list[str]:
        """What differs from the config; the final validation is the test."""
        regime = REGIMES[self.regime]
        options = [
            f'model.backbone.img_size={regime["image"]}',
            f'train_dataloader.dataset.pipeline.0.crop_size={regime["image"]}',
            f'train_dataloader.dataset.num_images={regime["images"]}',
            f'train_cfg.max_epochs={regime["epochs"]}',
            f'randomness.seed={self.seed}',
        ]
        for part in ('train', 'val', 'test'):
            options += [
                f'{part}_dataloader.dataset.image_size={regime["image"]}',
                f'{part}_dataloader.dataset.object_size={regime["object"]}',
            ]
        if self.stage == 'confirm':
            options += [
                'val_dataloader.dataset.split=test',
                'val_dataloader.dataset.num_images=10000',
                'val_dataloader.batch_size=400',
                f'train_cfg.val_interval={regime["epochs"]}',
            ]
        return options

    @property
    def recipe(self) -> str:
        """A hash of what makes the weights, but the seed."""
        return hash_of(self._replace(seed=0))


@cache
def hash_of(unit: Unit) -> str:
    """Of the recipe, without a seed."""
    cfg = Config.fromfile(ROOT / unit.config)
    options = [o for o in unit.options if not o.startswith('randomness')]
    text = json.dumps([{key: cfg[key] for key in RECIPE}, options], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# What the protocol says.


def screen_units() -> list[Unit]:
    """Seeds first, so that all regimes advance alike."""
    return [
        Unit('screen', regime, arm, seed)
        for seed in SCREEN_SEEDS
        for regime in REGIMES
        for arm in ('area', 'object')
    ]


def differences(stage: str, regime: str, arm: str, seeds, figure: str = 'top1') -> np.ndarray:
    """Arm - area of what is stored, points of ``top1``, of the given seeds, which are in.

    Raises:
        UserError: If a seed's two were trained by machines of different kinds.
    """
    gaps = []
    for seed in seeds:
        own, area = (read(Unit(stage, regime, name, seed)) for name in (arm, 'area'))
        devices = {unit.get('device', 'cpu') for unit in (own, area)}
        if len(devices) > 1:
            name = Unit(stage, regime, arm, seed).file.name
            raise UserError(f'{name} and its area were trained by {devices}: train one again')
        gaps.append(own[figure] - area[figure])
    return np.array(gaps)


def decide() -> dict:
    """Which regimes are confirmed, best first, and by how many pairs."""
    ranked = []
    for regime in REGIMES:
        gaps = differences('screen', regime, 'object', SCREEN_SEEDS)
        mean, spread = gaps.mean(), gaps.std(ddof=1)
        units = [unit for unit in screen_units() if unit.regime == regime]
        cost = sum(json.loads(unit.file.read_text())['cpu_seconds'] for unit in units)
        limit = upper_limit(spread, len(gaps))
        pairs = pairs_needed(limit)
        row = dict(regime=regime, mean=mean, sd=spread, rank=mean / spread, cpu_seconds=cost)
        row |= dict(sd_limit=limit, pairs=pairs, smallest=smallest_found(limit, pairs))
        ranked.append(row)
    ranked.sort(key=lambda row: (-row['rank'], row['cpu_seconds']))
    return dict(screen=ranked, tries=[row['regime'] for row in ranked if row['mean'] > 0][:2])


def upper_limit(spread: float, count: int, level: float = 0.8) -> float:
    """One-sided upper limit of a standard deviation."""
    return spread * np.sqrt((count - 1) / stats.chi2.ppf(1 - level, count - 1))


def power(difference: float, spread: float, pairs: int, alpha: float = 0.025) -> float:
    """Of a two-sided paired t test, in the direction of the difference."""
    # scipy's noncentral t is NaN far out, where the power is 1
    shift = min(difference / spread * np.sqrt(pairs), 8)
    bound = stats.t.ppf(1 - alpha / 2, pairs - 1)
    return stats.nct.sf(bound, pairs - 1, shift)


def pairs_needed(spread: float) -> int:
    """The least number that finds what matters; at most what is afforded."""
    enough = (n for n in range(MIN_PAIRS, MAX_PAIRS) if power(MATTERS, spread, n) >= 0.8)
    return next(enough, MAX_PAIRS)


def smallest_found(spread: float, pairs: int) -> float:
    """Points that so many pairs find with a power of 80 %."""
    return optimize.brentq(lambda d: power(d, spread, pairs) - 0.8, 0, 8 * spread)


def control(attempt: int, decision: dict) -> dict | None:
    """The one-sided test of object - area, once all units are in."""
    regime = decision['tries'][attempt]
    seeds = confirm_seeds(attempt, decision)
    if not all(unit.file.is_file() for unit in confirm_units(regime, ('area', 'object'), seeds)):
        return None
    gaps = differences('confirm', regime, 'object', seeds)
    p = stats.ttest_1samp(gaps, 0, alternative='greater').pvalue
    return dict(gaps=gaps, p=p, passed=bool(p < LEVELS[attempt]))


def confirm_seeds(attempt: int, decision: dict) -> range:
    pairs = {row['regime']: row['pairs'] for row in decision['screen']}
    pairs = pairs[decision['tries'][attempt]]
    return range(FIRST_SEEDS[attempt], FIRST_SEEDS[attempt] + pairs)


def confirm_units(regime: str, arms, seeds) -> list[Unit]:
    return [Unit('confirm', regime, arm, seed) for seed in seeds for arm in arms]


def tried() -> Iterator[tuple[int, str, range, dict | None]]:
    """Of every regime whose control is due: which try it is, name, seeds, and how it came out;
    none follows one that is not in, or confirmed."""
    decision = json.loads(DECISION.read_text()) if DECISION.is_file() else dict(tries=[])
    for attempt, regime in enumerate(decision['tries']):
        result = control(attempt, decision)
        yield attempt, regime, confirm_seeds(attempt, decision), result
        if result is None or result['passed']:
            return


def plan() -> list[Unit]:
    """All units that the protocol asks for, as far as it can be told."""
    units = screen_units()
    for _, regime, seeds, result in tried():
        units += confirm_units(regime, ('area', 'object'), seeds)
        if result and result['passed']:
            units += confirm_units(regime, COMPARED, seeds)
    return units


# How a unit is run.


def read(unit: Unit) -> dict:
    """What is stored of it, ``top1`` in percent.

    Raises:
        UserError: If another recipe trained it.
    """
    stored = json.loads(unit.file.read_text())
    if stored['recipe'] != unit.recipe:
        raise UserError(
            f'{unit.file.name} was trained by another recipe '
            f'({stored["recipe"]}) than there is now ({unit.recipe}): go '
            'back to that, or remove the file'
        )
    return stored


def run(unit: Unit) -> bool:
    """Train it, or go on, and write its file; False if another process, or a
    training that outlived its runner, is at it."""
    folder = ROOT / 'work_dirs/labels_study' / unit.name
    try:
        with hold(folder) as output:
            if not unit.file.is_file():
                train(unit, folder, output)
    except BusyError:
        return False
    return True


def train(unit: Unit, folder: Path, output: TextIO) -> None:
    """Let tools/train.py begin or go on, and write the file of the unit."""
    command = ['tools/train.py', unit.config, '--work-dir', folder, '--resume']
    threads = os.environ.get('OMP_NUM_THREADS', '1')
    run_held(output, *command, '--cfg-options', *unit.options, OMP_NUM_THREADS=threads)
    UNITS.mkdir(exist_ok=True)
    seconds = round(read_cpu_seconds(folder / 'cpu_seconds'))
    store(unit, UNITS, dict(read_curve(folder)), cpu_seconds=seconds, **read_probabilities(folder))


def store(unit: Unit, folder: Path, curve: dict[int, float], **more) -> None:
    """The file of a unit: what was trained, by which machine, how it came out, and more."""
    result = dict(
        **unit._asdict(),
        config=unit.config,
        options=unit.options,
        recipe=unit.recipe,
        top1=curve[max(curve)],
        curve=curve,
        **more,
        commit=commit(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu',
        torch=torch.__version__,
    )
    write(folder / unit.file.name, result)


def read_curve(folder: Path) -> Iterator[tuple[int, float]]:
    """Validated epochs and their accuracies, of all parts of a training."""
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        for record in map(json.loads, log.read_text().splitlines()):
            if 'accuracy/top1' in record:
                yield record['step'], round(record['accuracy/top1'], 4)


def read_probabilities(folder: Path) -> dict[str, float]:
    """Calibration error and mean negative log-likelihood of the last validation."""
    images = json.loads((folder / PREDICTIONS).read_text())['images']
    right = [image['label'] == image['predicted'] for image in images]
    return dict(
        calibration_error=calibration_error([image['score'] for image in images], right),
        nll=float(np.mean([image['error'] for image in images])),
    )


def commit() -> str:
    """Where the repository is."""
    command = ['git', 'rev-parse', '--short', 'HEAD']
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def go_on(stage: str | None) -> None:
    """Run what is missing; decide when the screen is in."""
    with progress_bar() as progress:
        bar = progress.add_task('')
        while True:
            units = plan()
            missing = [u for u in units if not u.file.is_file() and stage in (None, u.stage)]
            progress.update(bar, total=len(units), completed=len(units) - len(missing))
            if not missing:
                if DECISION.is_file() or stage == 'confirm':
                    return
                write(DECISION, decide())
                progress.console.print(f'commit {DECISION} before going on')
                return
            for unit in missing:
                progress.update(bar, description=unit.name)
                if run(unit):
                    progress.console.print(f'{unit.file.name} is in: commit it')
                    break
            else:
                progress.console.print('other processes are at all units that are missing')
                return


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument('--stage', choices=('screen', 'confirm'), help='run only its units')
    what = 'write labels_report.md, what may be told of the units that are in'
    parser.add_argument('--report', action='store_true', help=what)
    args = parser.parse_args()
    if args.report:
        from labels_report import all_in, draw, report

        text = report()
        if all_in():
            draw(HERE / 'results/labels.png')
        (HERE / 'labels_report.md').write_text(text)
        print(text)
    else:
        go_on(args.stage)


if __name__ == '__main__':
    with one_line_errors('labels_study.py'):
        main()
