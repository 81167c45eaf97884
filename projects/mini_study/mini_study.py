"""TL-Align against CutMix and no mixing, in miniature, with seeds.

    python projects/mini_study/mini_study.py           goes on where it stopped
    python projects/mini_study/mini_study.py --report  tables of what is done

A unit is one backbone with one seed: every arm pretrained on CIFAR-10 and, for
the first seeds, transferred to BCCD and CamVid. Its jobs are trainings by
tools/train.py, which resume after a kill. When the last one ends, the unit's
figures are written to ``results/``, and count as done from then on, on any
machine: commit them, and the report. The recipe stands in
configs/classification/tlalign, and the reasons for it in README.md.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from rich.progress import Progress
from trainings import ROOT, hold, progress_bar, read_cpu_seconds, run_held, write

import mmtlalign
from mmtlalign.checkpoint import load_checkpoint_safely
from mmtlalign.checkpoint.training_record import read_log, split_version
from mmtlalign.commands.command_line import new_parser
from mmtlalign.errors import UserError, one_line_errors

RESULTS = ROOT / 'projects/mini_study/results'
CLASSIFIERS = 'configs/classification/tlalign/'
EPOCHS = 128
RECIPE = f'1xb128-{EPOCHS}e_cifar10-2500'

BACKBONES = ('deit-mini', 'swin-mini')
SEEDS = dict(tlalign=range(6), cutmix=range(6), none=range(2), random=())
TRANSFER_SEEDS = dict(tlalign=range(3), cutmix=range(3), none=range(1), random=range(1))
TRANSFERS = dict(
    bccd='configs/detection/tlalign/faster-rcnn_tlalign-{}_1xb2_bccd.py',
    camvid='configs/segmentation/tlalign/tlalign-{}.py',
)
# What a backbone has in their names.
NAMED = {
    'deit-mini': dict(bccd='deit-mini_sfp', camvid='deit-mini_upernet_1xb4-600_camvid-120x90'),
    'swin-mini': dict(bccd='swin-mini_fpn', camvid='swin-mini_upernet_1xb4-600_camvid-240x180'),
}
# Name of the metric in the logs, and what makes it percent.
METRICS = dict(cifar10=('accuracy/top1', 1), bccd=('coco/bbox_mAP', 100), camvid=('mIoU', 1))


class Job(NamedTuple):
    """One training of one arm."""

    task: str
    arm: str
    config: str
    options: list

    @property
    def name(self) -> str:
        return f'{self.task}_{self.arm}'


def plan(backbone: str, seed: int) -> list[Job]:
    """The jobs of a unit, pretraining before what starts from it."""
    jobs = []
    for arm in ('none', 'cutmix', 'tlalign'):  # the pilots come first
        if seed in SEEDS[arm]:
            jobs.append(Job('cifar10', arm, CLASSIFIERS + (f'{arm}_{backbone}_{RECIPE}.py'), []))
    for task, arm in product(TRANSFERS, TRANSFER_SEEDS):
        if seed in TRANSFER_SEEDS[arm]:
            start = unit_dir(backbone, seed) / f'cifar10_{arm}/epoch_{EPOCHS}.pth'
            weights = '=None' if arm == 'random' else f'.checkpoint={start}'
            weights = f'model.backbone.init_cfg{weights}'
            jobs.append(Job(task, arm, TRANSFERS[task].format(NAMED[backbone][task]), [weights]))
    return jobs


def unit_dir(backbone: str, seed: int) -> Path:
    """Where a unit's trainings are; not kept when it is done."""
    return Path('work_dirs/mini_study', RECIPE, f'{backbone}_seed{seed}')


def result_file(backbone: str, seed: int) -> Path:
    """What remains of a unit."""
    return RESULTS / f'{backbone}_seed{seed}.json'


def run_job(job: Job, folder: Path, seed: int, show: Callable[[str], None] | None = None) -> dict:
    """Train and, for classifiers, keep how they err.

    Args:
        show (Callable, optional): Called with the time left, as the training tells it.

    Returns:
        dict: Final figure, what it is on images drawn anew, curve, CPU
        seconds, config hash, versions; at once if the job had ended before.

    Raises:
        UserError: If what had ended was of another recipe.
    """
    done = folder / 'done.json'
    options = [*job.options, f'randomness.seed={seed}']
    recipe = hash_of(job.config, options)
    if done.is_file():
        result = json.loads(done.read_text())
        if result['config_hash'] != recipe:
            raise UserError(
                f'{folder} was trained by another recipe ({result["config_hash"]}) than '
                f'{job.config} is now ({recipe}): go back to that, or remove the folder'
            )
        return result
    train = [job.config, '--work-dir', folder, '--resume', '--cfg-options', *options]
    run_tool(folder, 'tools/train.py', *train, show=show)
    result = dict(config=job.config, options=options, config_hash=recipe)
    metric, factor = METRICS[job.task]
    curve = read_scalars(folder, metric, 'step', factor, 4)
    result.update(final=curve[-1][1], curve=curve)
    checkpoint = folder / Path((folder / 'last_checkpoint').read_text()).name
    bootstrap = ['--work-dir', folder / 'test', '--bootstrap', folder / 'bootstrap.json']
    run_tool(folder, 'tools/test.py', job.config, checkpoint, *bootstrap)
    result['redrawn'] = read_draws(folder / 'bootstrap.json', factor)
    result['versions'] = read_versions(checkpoint)
    if job.task == 'cifar10':
        out = ['--patch-size', '4', '--out', folder / 'robustness.json']
        run_tool(folder, 'tools/analysis_tools/robustness.py', job.config, checkpoint, *out)
        robustness = json.loads((folder / 'robustness.json').read_text())
        kept = ('top1', 'calibration_error', 'confidence')
        result['robustness'] = {key: robustness[key] for key in kept}
        # Mean of |share - lam| at the output, in the last logs of every epoch.
        result['fluctuation'] = read_scalars(folder, 'token_fluctuation', 'epoch', 1, 5)
    result['cpu_seconds'] = round(read_cpu_seconds(folder / 'cpu_seconds'))
    write(done, result)
    return result


def run_tool(folder: Path, *command, show: Callable[[str], None] | None = None) -> None:
    """Run one of our tools; its output goes into the folder, which is its own meanwhile."""
    with hold(folder) as output:
        run_held(output, *command, show=show)


def read_scalars(folder: Path, key: str, by: str, factor: float, digits: int) -> list:
    """What the logger wrote last under a key, of every step or epoch, in all parts of a run."""
    checkpoint = (folder / 'last_checkpoint').read_text()
    log = read_log(str(folder / Path(checkpoint).name), {})
    records = [record for record in map(json.loads, log.splitlines()) if key in record]
    last = {record[by]: round(factor * record[key], digits) for record in records}
    return [[step, last[step]] for step in sorted(last)]


def read_draws(path: Path, factor: float) -> str:
    """The figure on images drawn anew, of every draw, in percent; in a line,
    which a list would not be."""
    draws = json.loads(path.read_text())['draws']
    return ' '.join(f'{factor * figure:.2f}' for figure in draws)


def read_versions(checkpoint: Path) -> dict:
    """What trained a checkpoint, and the commit it was at."""
    mmengine, commit = split_version(load_checkpoint_safely(str(checkpoint))['meta'])
    versions = dict(mmtlalign=mmtlalign.__version__, mmengine=mmengine)
    return dict(commit=commit, **versions, torch=str(torch.__version__))


def hash_of(config: str, options: list) -> str:
    """What tells two recipes apart: the whole config, without its seed."""
    cfg = Config.fromfile(ROOT / config)
    same = [o for o in options if 'checkpoint=' not in o and not o.startswith('randomness.seed')]
    return hashlib.sha256((cfg.pretty_text + repr(same)).encode()).hexdigest()[:12]


def run_unit(backbone: str, seed: int, progress: Progress, bar: int) -> None:
    """All jobs of a unit, and then its file among the results."""
    results = {}
    for job in plan(backbone, seed):

        def show(left: str, name: str = f'{backbone}, seed {seed}: {job.name}') -> None:
            progress.update(bar, description=name + (f' ({left} left)' if left else ''))

        show('')
        folder = unit_dir(backbone, seed) / job.name
        new = not (folder / 'done.json').is_file()
        results[job.name] = run_job(job, folder, seed, show)
        progress.advance(bar, new)
    RESULTS.mkdir(parents=True, exist_ok=True)
    threads = os.environ.get('OMP_NUM_THREADS')
    path = result_file(backbone, seed)
    write(path, dict(backbone=backbone, seed=seed, threads=threads, jobs=results))
    progress.console.print(f'{path} is written: commit it')


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    what = 'write tables and pictures of the units done beside them'
    parser.add_argument('--report', action='store_true', help=what)
    parser.add_argument('--backbones', nargs='+', default=BACKBONES, choices=BACKBONES)
    seeds = SEEDS['tlalign']
    parser.add_argument('--seeds', nargs='+', type=int, default=sorted(seeds), choices=seeds)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.report:
        from study_report import write_report

        write_report(RESULTS)
        return
    units = [
        (backbone, seed)
        for seed in args.seeds
        for backbone in args.backbones
        if not result_file(backbone, seed).is_file()
    ]
    jobs = [unit_dir(*unit) / job.name for unit in units for job in plan(*unit)]
    done = sum((folder / 'done.json').is_file() for folder in jobs)
    with progress_bar() as progress:
        bar = progress.add_task('', total=len(jobs), completed=done)
        progress.advance(bar, 0)  # the time counts from here
        for unit in units:
            run_unit(*unit, progress, bar)


if __name__ == '__main__':
    with one_line_errors('mini_study.py'):
        main()
