"""Train a classifier, detector or segmenter from its config.

mmtlalign train tlalign_deit-digits_1xb32_digits
mmtlalign train my_config.py --resume --cfg-options randomness.seed=1
"""

import argparse
import os.path as osp
import tempfile
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmtlalign.apis.channel_order import trained_order
from mmtlalign.checkpoint import (
    check_pretrained_file,
    check_weights,
    find_pretrained,
    forget_pretrained,
    hand_to_host,
)
from mmtlalign.commands.checks import (
    check_data,
    check_shared_memory,
    check_values,
    classes_in,
    draw_samples,
    is_first_process,
    report,
    training_classes,
    warn_of_start,
)
from mmtlalign.commands.command_line import (
    add_common_arguments,
    add_picture_argument,
    load_config,
    make_folder_of_picture,
    new_parser,
    number,
)
from mmtlalign.commands.console import progress_bar, say_what_next
from mmtlalign.commands.distributed import use_gloo_without_gpu
from mmtlalign.commands.report import write_report
from mmtlalign.commands.resumed_config import check_same_run, extend_schedule, schedules_of
from mmtlalign.commands.runner import build_runner
from mmtlalign.commands.start import read_start
from mmtlalign.commands.threads import set_threads
from mmtlalign.commands.trackers import TrackRun, add_track_argument, check_installed, use_trackers
from mmtlalign.commands.training_options import add_training_options, apply_training_options
from mmtlalign.commands.work_dir import check_no_earlier_run, lock_work_dir, remove_earlier_run
from mmtlalign.engine import DryRunEnded, VerifyPretrained, keep_checkpoints_whole
from mmtlalign.errors import UserError, warn
from mmtlalign.host_check import check_host, check_sync_bn
from mmtlalign.old_arguments import modernise
from mmtlalign.output_files import check_space
from mmtlalign.resources import check_data_of


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='path of a config, or name of one that comes along')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the latest one in the '
        'work dir if none is named (from the start if there is none)',
    )
    parser.add_argument(
        '--extend',
        type=number(int, 1),
        metavar='N',
        help='with --resume: new total of epochs or iterations; '
        'schedules that ended with the old one end with it',
    )
    parser.add_argument(
        '--accept',
        nargs='+',
        default=[],
        metavar='KEY',
        help='with --resume: entries of the config that may differ from what ran',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='delete the checkpoints of another run in the work dir',
    )
    add_training_options(parser)
    parser.add_argument(
        '--no-report',
        action='store_true',
        help='keep no predictions of the last validation, and write no report.html at the end',
    )
    add_common_arguments(parser)
    add_picture_argument(parser)
    add_track_argument(parser)
    return parser


def count_accumulation(cfg: Config) -> None:
    """Let the host's scaling of the learning rate, which multiplies the batch size by the number of
    processes only, see the batch of a step, not of a forward."""
    steps = (cfg.get('optim_wrapper') or {}).get('accumulative_counts') or 1
    if steps > 1 and (cfg.get('auto_scale_lr') or {}).get('enable'):
        cfg.auto_scale_lr.base_batch_size /= steps


def check_schedule(cfg: Config) -> None:
    """Raise a UserError if training ends before a schedule begins that lasts until that end."""
    for schedule in schedules_of(cfg):
        key = 'max_epochs' if schedule.get('by_epoch', True) else 'max_iters'
        last, begin = cfg.train_cfg.get(key), schedule.get('begin', 0)
        if last is not None and last <= begin and 'end' not in schedule:
            raise UserError(
                f'train_cfg.{key}={last} ends within the warm-up, before {schedule["type"]} begins '
                f'at {begin}; set --cfg-options train_cfg.{key}={begin + 1} or more'
            )


def translate_old_arguments(cfg: Config) -> None:
    """Resume what an older release began; raise a UserError for a new training with all that has
    to be changed."""
    changes = modernise(cfg.model)
    if changes and not cfg.get('resume'):
        raise UserError(
            f"config '{cfg.filename}' is written for release 0.1: in its model {'; '.join(changes)}"
        )


def goes_on_here(cfg: Config) -> bool:
    """Whether what lies in the work dir is what training goes on from."""
    start = cfg.get('load_from')
    return bool(cfg.get('resume')) and (
        start is None or osp.realpath(osp.dirname(start)) == osp.realpath(cfg.work_dir)
    )


def has_ended(cfg: Config, checkpoint: dict) -> bool:
    """Whether there is nothing left to do, and say so."""
    for unit, key in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        total, done = cfg.train_cfg.get(key), checkpoint['meta'][unit]
        if total and done >= total:
            print(
                f'nothing left to do: {key}={total}, and the checkpoint has seen {done}; to train '
                'longer, give --extend N with a larger N'
            )
            return True
    return False


def check_room(runner: Runner, work_dir: str) -> None:
    """Raise a UserError if the disk has no room for two checkpoints: the one that is there when the
    next one is written. An optimizer such as AdamW holds two numbers for each weight."""
    folder = Path(work_dir).absolute()
    while not folder.is_dir():  # none is made for a dry run
        folder = folder.parent
    weights = sum(value.nbytes for value in runner.model.state_dict().values())
    trained = sum(value.nbytes for value in runner.model.parameters() if value.requires_grad)
    check_space(folder, 2 * (weights + 2 * trained), 'two checkpoints', '--work-dir')


def register_hooks(runner: Runner, args: argparse.Namespace) -> None:
    """Those that every training has."""
    keep_checkpoints_whole(runner)
    present = [type(hook).__name__ for hook in runner.hooks]
    for name in ('StopOnDivergence', 'StopOnSignal'):
        if name not in present:
            runner.register_hook(dict(type=f'mmtlalign.{name}'))
    if not args.dry_run:  # whose second step must not be the first that compiles
        runner.register_hook(dict(type='mmtlalign.Throughput', peak_tflops=args.peak_tflops))
    if args.extend:
        runner.register_hook(dict(type='mmtlalign.ExtendSchedule'))
    if not args.no_report and runner.cfg.get('val_cfg') is not None:
        is_rgb = trained_order(runner.cfg) == 'rgb'
        runner.register_hook(dict(type='mmtlalign.KeepPredictions', is_rgb=is_rgb))


def look_at_data(
    cfg: Config, args: argparse.Namespace, checkpoint: dict | None, start: str | None
) -> None:
    """Read what will be trained on, say what is there, draw it if asked."""
    trained = classes_in(checkpoint) if start else None
    is_resumed = bool(cfg.get('resume'))
    full = args.check == 'full'
    expected = trained if is_resumed else None
    findings = check_data(cfg, 'train', 'val', full=full, trained=expected, checkpoint=start or '')
    warning = None
    if start and not is_resumed:
        warning = warn_of_start(trained, start, *training_classes(cfg))
    if findings:
        print('\n'.join(report(findings)))
        if warning:
            warn(warning)
    if args.check_picture and is_first_process():
        make_folder_of_picture(args.check_picture, '--check-picture')
        draw_samples(cfg, args.check_picture)
        print(f'picture: {args.check_picture}')


def set_weights(runner: Runner, start: str | None, checkpoint: dict | None, trust: bool) -> None:
    """See to it that the weights are those that the config names."""
    model = getattr(runner.model, 'module', runner.model)
    if start:
        allowed = [] if runner.cfg.get('resume') else runner.cfg.get('load_from_allowed', [])
        check_weights(model, checkpoint, start, allowed)
        hand_to_host(start, checkpoint)
        runner._load_from = start  # else it looks for the latest once more
        forget_pretrained(model)  # the file may be gone, and is not needed
        print_log(f"Weights: from '{start}'", logger='current')
    elif find_pretrained(model):
        proof = VerifyPretrained(trust)
        proof.before_run(runner)  # while the model is whole
        runner.register_hook(proof)
    else:
        print_log('Weights: random (no init_cfg names a checkpoint)', logger='current')


def report_run(work_dir: str) -> None:
    """Write ``report.html``; what was trained is no worse without it."""
    page = osp.join(work_dir, 'report.html')
    try:
        write_report([work_dir], page, trust=True)  # its config has been run
        print(f'report: {page}')
    except Exception as error:
        warn(
            f'no report ({type(error).__name__}: {error}); '
            f'mmtlalign report {work_dir} --debug tells more'
        )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What is given, if it fits together."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.resume is None and (args.extend or args.accept):
        parser.error('--extend and --accept go with --resume')
    if args.resume is not None and args.overwrite:
        parser.error('--overwrite begins anew, and --resume goes on: give one')
    if args.dry_run and args.profile is not None:
        parser.error('--dry-run leaves nothing behind, and --profile a trace: give one')
    return args


def prepare_runner(
    cfg: Config, args: argparse.Namespace, start: str | None, checkpoint: dict | None
) -> Runner:
    """The host's, with the right weights and the hooks that all have."""
    threads = set_threads(distributed=cfg.launcher != 'none')
    runner = build_runner(cfg)
    print_log(threads, logger='current')
    set_weights(runner, start, checkpoint, args.trust)
    register_hooks(runner, args)
    return runner


def rehearse(
    cfg: Config, args: argparse.Namespace, start: str | None, checkpoint: dict | None
) -> None:
    """Train two steps in a folder that is gone afterwards."""
    work_dir = cfg.work_dir
    with tempfile.TemporaryDirectory() as cfg.work_dir:
        runner = prepare_runner(cfg, args, start, checkpoint)
        runner.register_hook(dict(type='mmtlalign.DryRun'))
        check_room(runner, work_dir)
        try:
            runner.train()
        except DryRunEnded as ended:
            if is_main_process():
                print(ended)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args)
    check_data_of(cfg, 'train')
    apply_training_options(cfg, args)
    check_values(cfg)
    check_shared_memory(cfg)
    check_schedule(cfg)
    count_accumulation(cfg)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    translate_old_arguments(cfg)
    if not args.dry_run:  # which writes nothing there
        if osp.isdir(cfg.work_dir):
            lock_work_dir(cfg.work_dir)
        if not args.overwrite and not goes_on_here(cfg):
            check_no_earlier_run(cfg.work_dir)
    start, checkpoint = read_start(cfg, args.trust)
    changes = []
    if start and cfg.get('resume'):
        changes = check_same_run(cfg, checkpoint, start, args.accept, args.extend)
        if has_ended(cfg, checkpoint):
            return
    elif args.extend:  # there was nothing to go on from
        extend_schedule(cfg, args.extend)
    if args.dry_run:
        check_installed(args.track)
    else:
        use_trackers(cfg, args.track, checkpoint)
    check_host(cfg)
    check_sync_bn(cfg)
    look_at_data(cfg, args, checkpoint, start)
    if not start:  # the only case in which that file is read
        check_pretrained_file(cfg)
    use_gloo_without_gpu(cfg)
    if args.dry_run:
        rehearse(cfg, args, start, checkpoint)
        return
    lock_work_dir(cfg.work_dir)
    runner = prepare_runner(cfg, args, start, checkpoint)
    del checkpoint  # which would be in memory as long as the training runs
    runner.register_hook(dict(type='mmtlalign.RecordLegs', changes=changes))
    if args.track:
        runner.register_hook(TrackRun(args.track))
    check_room(runner, cfg.work_dir)
    if args.overwrite and is_main_process():
        remove_earlier_run(cfg.work_dir, keep=start)
    with progress_bar(runner):
        runner.train()
    if not args.no_report and is_main_process():
        report_run(cfg.work_dir)
    say_what_next(runner)
