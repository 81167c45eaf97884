"""CutMix for segmentation, labels pasted or aligned, on CamVid, with seeds.

    python projects/mini_study/camvid_mixing.py --smoke   two steps of each
    python projects/mini_study/camvid_mixing.py           goes on where it was
    python projects/mini_study/camvid_mixing.py --report  table of what is done

A unit is one backbone with one seed and three arms: no mixing, CutMix, and the same boxes with
labels that follow the tokens. Arms of a seed share their initial weights and the order of images. A
unit that has ended leaves one small file in ``camvid_mixing/``: commit it. The recipes stand in
configs/segmentation/cutmix. Two at a time, for two cores: OMP_NUM_THREADS=1 and ``--backbones
deit-mini``, and with ``swin-mini``.
"""

import argparse
import json
from pathlib import Path

from mini_study import ROOT, Job, run_job, run_tool, write
from study_report import interval, mean_and_spread, paired_gaps, row

from mmtlalign.commands.command_line import new_parser
from mmtlalign.errors import UserError, one_line_errors

RESULTS = ROOT / 'projects/mini_study/camvid_mixing'
SEEDS = range(6)
ARMS = ('none', 'cutmix', 'aligned-cutmix')
SEGMENTERS = {
    'deit-mini': 'deit-mini_upernet_1xb4-600_camvid-120x90',
    'swin-mini': 'swin-mini_upernet_1xb4-600_camvid-240x180',
}
KEPT = ('config', 'options', 'config_hash', 'final', 'curve', 'cpu_seconds', 'versions')


def plan(backbone: str) -> list[Job]:
    """The three trainings of a unit, from the zoo's weights."""
    found = sorted(Path('zoo').glob(f'tlalign_{backbone}_1xb128-128e_cifar10-2500_*.safetensors'))
    if len(found) != 1:
        raise UserError(
            f'{len(found)} files of zoo/ start {backbone}: run '
            f'this from the root of a checkout, {ROOT}'
        )
    weights = f'model.backbone.init_cfg.checkpoint={found[0]}'
    config = f'configs/segmentation/cutmix/{{}}_{SEGMENTERS[backbone]}.py'
    return [Job('camvid', arm, config.format(arm), [weights]) for arm in ARMS]


def work_dir(backbone: str, seed: int, arm: str) -> Path:
    """Where a training is; not kept when its unit is done."""
    return Path('work_dirs/camvid_mixing', f'{backbone}_seed{seed}', arm)


def run_unit(backbone: str, seed: int) -> None:
    """Train what is not trained yet, and write the file of the unit; nothing if it is there."""
    path = RESULTS / f'{backbone}_seed{seed}.json'
    if path.is_file():
        return
    arms = {}
    for job in plan(backbone):
        print(f'{backbone}, seed {seed}: {job.arm}', flush=True)
        result = run_job(job, work_dir(backbone, seed, job.arm), seed)
        arms[job.arm] = {key: result[key] for key in KEPT}
    RESULTS.mkdir(parents=True, exist_ok=True)
    write(path, dict(backbone=backbone, seed=seed, arms=arms))


def smoke(backbone: str) -> None:
    """Two steps of every arm and a validation; leaves no figure."""
    for job in plan(backbone):
        print(f'{backbone}: two steps of {job.arm}', flush=True)
        folder = work_dir(backbone, 0, f'{job.arm}_smoke')
        short = ['train_cfg.max_iters=2', 'default_hooks.logger.interval=1', 'param_scheduler=None']
        command = ['tools/train.py', job.config, '--work-dir', folder]
        run_tool(folder, *command, '--cfg-options', *job.options, *short)


HEAD = """mIoU in percent after the last step, mean ± SD (seeds); differences are paired by
seed, with 95 % t intervals.

| backbone | none | cutmix | aligned-cutmix | CutMix - none | aligned - CutMix |
|---|---|---|---|---|---|"""


def report() -> str:
    """mIoU of every arm, and paired differences."""
    rows = [HEAD]
    for backbone in SEGMENTERS:
        units = [
            json.loads(path.read_text()) for path in sorted(RESULTS.glob(f'{backbone}_seed*.json'))
        ]
        if not units:
            continue
        none, cutmix, aligned = (
            {unit['seed']: unit['arms'][arm] for unit in units} for arm in ARMS
        )
        cells = []
        for arm in (none, cutmix, aligned):
            finals = [result['final'] for result in arm.values()]
            cells.append(f'{mean_and_spread(finals)} ({len(finals)})')
        gaps = paired_gaps(cutmix, none), paired_gaps(aligned, cutmix)
        rows.append(row(backbone, *cells, *map(interval, gaps)))
    return '\n'.join(rows)


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--smoke', action='store_true', help='two steps of each arm')
    what.add_argument('--report', action='store_true', help='print the table of what is done')
    backbones = tuple(SEGMENTERS)
    parser.add_argument('--backbones', nargs='+', default=backbones, choices=backbones)
    parser.add_argument('--seeds', nargs='+', type=int, default=SEEDS, choices=SEEDS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.report:
        print(report())
    elif args.smoke:
        for backbone in args.backbones:
            smoke(backbone)
    else:
        for seed in args.seeds:
            for backbone in args.backbones:
                run_unit(backbone, seed)


if __name__ == '__main__':
    with one_line_errors('camvid_mixing.py'):
        main()
