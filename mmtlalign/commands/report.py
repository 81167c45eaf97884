"""Write one HTML page about a run, or about several side by side.

mmtlalign report work_dirs/NAME
mmtlalign report work_dirs/NAME work_dirs/OTHER --out compared.html
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from statistics import median

from mmengine.config import Config
from mmengine.dist import is_distributed
from mmengine.registry import DATASETS, DefaultScope

from mmtlalign.apis import get_model
from mmtlalign.apis.mixing import trace_mix
from mmtlalign.checkpoint.plain_types import check_plain_types
from mmtlalign.checkpoint.training_record import find_changes, find_command, read_config
from mmtlalign.commands.command_line import add_trust_argument, ending, make_folder_of, new_parser
from mmtlalign.commands.curves import read_log
from mmtlalign.commands.visualize import draw_mix
from mmtlalign.commands.work_dir import checkpoints_in
from mmtlalign.data_configs import code_named_in
from mmtlalign.engine import PREDICTIONS
from mmtlalign.errors import UserError
from mmtlalign.evaluation.bootstrap import paired_difference
from mmtlalign.evaluation.robustness import calibration_error
from mmtlalign.output_files import write_whole
from mmtlalign.visualization.report import Run, render
from mmtlalign.visualization.report.figures import to_uri

# What a log's line begins with, and those of its head that say what ran.
TIME = re.compile(r'(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - mmengine - (\w+) - (.*)')
VERSIONS = ('Python', 'PyTorch', 'TorchVision', 'OpenCV', 'MMEngine')
MACHINE = re.compile('sys.platform|GPU .*|CUDA available')


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='of a training')
    parser.add_argument(
        '--out',
        type=ending('.html'),
        metavar='FILE.html',
        help='page to write (default: report.html in the first)',
    )
    add_trust_argument(parser)
    return parser


def write_report(work_dirs: Sequence[str], out: str, trust: bool = False) -> None:
    """Write the page; with ``trust``, a config that does more than name values is run."""
    names = [Path(folder).resolve().name for folder in work_dirs]
    if len({*names}) < len(names):
        names = [str(folder) for folder in work_dirs]
    runs = [read_run(Path(folder), name, trust) for folder, name in zip(work_dirs, names)]
    differences = [compare(runs[0], other) for other in runs[1:]]
    write_whole(out, render(runs, [found for found in differences if found]))


def read_run(folder: Path, name: str, trust: bool) -> Run:
    """All that a work dir tells of its run."""
    parts = find_parts(folder)
    if not parts:
        raise UserError(
            f"'{folder}' holds no log of a training (TIME/vis_data/scalars.json); "
            'give the work dir of one'
        )
    train, val = read_log([str(part / 'vis_data/scalars.json') for part in parts])
    logs = [read_head(part / f'{part.name}.log') for part in parts]
    warnings: Counter[str] = sum((log['warnings'] for log in logs), Counter())
    run = Run(name, train=train, val=val, warnings=warnings)
    head = logs[-1]['head']
    run.facts['command'] = ''
    cfg = read_run_config(folder, parts[-1], run, trust, head.get('seed'))
    duration = sum((log['duration'] for log in logs), timedelta())
    run.facts.update(
        seed=head.get('seed', ''),
        began=logs[0]['began'],
        duration=f'{duration}' + f' in {len(parts)} parts' * (len(parts) > 1),
        versions=', '.join(f'{key} {head[key]}' for key in VERSIONS if key in head),
        machine=', '.join(f'{k}: {v}' for k, v in head.items() if MACHINE.match(k)),
    )
    add_predictions(run, folder)
    add_cost(run, cfg, int(head.get('GPU number') or 1))
    if cfg:
        add_alignment(run, cfg, folder, trust)
    return run


def find_parts(folder: Path) -> list[Path]:
    """Folders of the logs of the last training in a work dir, the oldest first:
    one that was resumed has several."""
    parts: list[Path] = []
    begin = inf
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        with open(log) as file:
            first = next(filter(str.strip, file), '')
        if step := re.search(r'"step": (\d+)', first):
            if int(step[1]) <= begin:  # begun anew
                parts, begin = [], int(step[1])
            parts.append(log.parents[1])
    return parts


def read_head(path: Path) -> dict:
    """Duration, warnings, and the head of a log: what ran on what."""
    text = path.read_text(errors='replace') if path.is_file() else ''
    lines = [found.groups() for line in text.splitlines() if (found := TIME.match(line))]
    times = [datetime.strptime(time, '%Y/%m/%d %H:%M:%S') for time, _, _ in lines]
    head = text.partition(' - Config:')[0]
    return dict(
        began=f'{times[0]}' if times else '',
        duration=times[-1] - times[0] if times else timedelta(),
        warnings=Counter(said for _, level, said in lines if level == 'WARNING'),
        head=dict(re.findall(r'^    ([\w. ]+): (.*)$', head, re.MULTILINE)),
    )


def read_run_config(
    folder: Path, part: Path, run: Run, trust: bool, seed: str | None
) -> Config | None:
    """The config that ran; the facts say by which command."""
    named = sorted(folder.glob('*.py'), key=lambda path: path.stat().st_mtime)
    path = part / 'vis_data/config.py'  # a test writes over that of its name
    if not (named and path.is_file()):
        run.notes.append('there is no config in the work dir')
        return None
    name = named[-1].stem
    try:
        cfg = read_config(path.read_text(), str(path), trust)
    except UserError as error:
        run.notes.append(str(error))
        return None
    number = int(seed) if seed and seed.isdecimal() else None
    run.facts['command'], uncovered = find_command(cfg, name, number)
    if uncovered:
        run.notes.append(f'the command does not cover {uncovered}')
    changes = find_changes(cfg, name, number) or []
    run.changes = [('.'.join(map(str, keys)), str(value)) for keys, value in changes]
    return cfg


def add_predictions(run: Run, folder: Path) -> None:
    """What the last validation found, and how sure it was."""
    path = folder / PREDICTIONS
    if not path.is_file():
        run.notes.append(
            f'predictions were not kept ({PREDICTIONS} is missing): the training was run with '
            '--no-report, by an older release, or without validation'
        )
        run.metrics = run.val[max(run.val)] if run.val else {}
        run.metrics.pop('step', None)
        return
    try:
        run.predictions = json.loads(path.read_text())
        images, known = run.predictions['images'], range(len(run.predictions['classes']))
        if any(i[key] not in known for i in images for key in ('label', 'predicted') if key in i):
            raise ValueError
        run.metrics = {k: float(v) for k, v in run.predictions['metrics'].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"'{path}' is no file of predictions; remove it") from None
    if not images:
        run.notes.append(
            'nothing is known image by image: the validation pipeline loads no annotations, or '
            'an image has several labels'
        )
    elif 'label' in images[0]:
        run.metrics['calibration error, %'] = 100 * calibration_error(
            [image['score'] for image in images],
            [image['label'] == image['predicted'] for image in images],
        )


def add_cost(run: Run, cfg: Config | None, processes: int) -> None:
    """Throughput, and what memory was needed."""
    times = [record['time'] for record in run.train.values() if 'time' in record]
    batch = (cfg or {}).get('train_dataloader', {}).get('batch_size')
    if times and batch:
        run.facts['throughput'] = f'{batch * processes / median(times):.1f} images/s in training'
    peak = max((record.get('memory', 0) for record in run.train.values()), default=0)
    has_gpu = 'CUDA available: True' in run.facts.get('machine', '')  # else it is the process's
    memory = [f'{peak:.0f} MiB on the GPU'] if peak and has_gpu else []
    if main := run.predictions.get('peak_memory_mib'):
        memory.append(f'{main} MiB in the main process')
    run.facts['peak memory'] = ', '.join(memory)


def add_alignment(run: Run, cfg: Config, folder: Path, trust: bool) -> None:
    """How labels move through the trained model, on two validation images.

    Model and data set are built of what the config names, which, without trust, must
    be data and a model that only makes layers.
    """
    checkpoints = checkpoints_in(folder)
    if cfg.get('default_scope', 'mmpretrain') != 'mmpretrain' or not checkpoints:
        return
    if is_distributed():  # data sets may wait for processes that have ended
        run.notes.append('no picture of how labels move: mmtlalign report draws it afterwards')
        return
    try:
        if not trust:
            if named := code_named_in(cfg):
                raise UserError(f'its config can run any code ({named}); pass --trust')
            check_plain_types(cfg, str(checkpoints[0]))
        model = get_model(cfg, checkpoints[0])
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            dataset = DATASETS.build(cfg.val_dataloader.dataset)
        labels = [int(label) for label in dataset.get_gt_labels()]
        second = next((i for i, label in enumerate(labels) if label != labels[0]), 0)
        samples = [dataset[0], dataset[second]]
        batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        found = trace_mix(model, batch)
    except (UserError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        run.notes.append(f'no picture of how labels move: {" ".join(str(error).split())}')
        return
    run.alignment = to_uri(draw_mix(found, f'{run.name}, {checkpoints[0].name}'))


def compare(first: Run, other: Run) -> tuple[str, str] | None:
    """How much more often, or worse, another run errs on the same images."""
    ours, theirs = (run.predictions.get('images', []) for run in (first, other))
    known = [[(i['name'], i.keys() - {'drawn'}) for i in images] for images in (ours, theirs)]
    if not ours or known[0] != known[1]:
        other.notes.append(
            f'not compared image by image with {first.name}: not the same images and task'
        )
        return None
    unit, factor = 'points of pixels wrong', 100.0
    errors = [[image['error'] for image in images] for images in (ours, theirs)]
    if 'label' in ours[0]:
        unit = 'points of images wrong'
        errors = [[i['label'] != i['predicted'] for i in images] for images in (ours, theirs)]
    elif 'missed' in ours[0]:
        unit, factor = 'objects missed or invented, an image', 1.0
    mean, low, high = (factor * value for value in paired_difference(errors[0], errors[1]))
    return (
        f'{other.name} less {first.name}:',
        f'{mean:+.3g} {unit} (95 % of {len(ours)} images drawn anew: {low:+.3g} to {high:+.3g}; '
        'other trainings may differ by more)',
    )


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    out = args.out or str(Path(args.work_dirs[0], 'report.html'))
    for folder in args.work_dirs:
        if not Path(folder).is_dir():
            raise UserError(f"work dir '{folder}' does not exist")
    make_folder_of(out)
    write_report(args.work_dirs, out, args.trust)
    print(f'report: {out}')
