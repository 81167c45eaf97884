"""Train a classifier, detector or segmenter from its config.

    mmtlalign train tlalign_deit-digits_1xb32_digits
    mmtlalign train my_config.py --resume --cfg-options randomness.seed=1
"""
import argparse

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from mmtlalign.checkpoint import (
    check_pretrained_file,
    check_weights,
    find_pretrained,
    forget_pretrained,
    hand_to_host,
    load_checkpoint_safely,
)
from mmtlalign.commands.checks import check_data
from mmtlalign.commands.command_line import (
    add_common_arguments,
    check_file,
    load_config,
    make_work_dir,
    new_parser,
)
from mmtlalign.commands.distributed import use_gloo_without_gpu
from mmtlalign.commands.start_up_noise import (
    keep_parameter_options_off_console,
)
from mmtlalign.commands.threads import set_threads
from mmtlalign.errors import UserError
from mmtlalign.host_check import check_host, check_sync_bn
from mmtlalign.old_arguments import modernise

# What a training goes on from, beside its weights.
RESUMED = dict(epoch=int, iter=int, message_hub=dict, optimizer=dict)


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='path of a config, or name of one that '
                        'comes along')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the latest one in the '
        'work dir if none is named (from the start if there is none)')
    parser.add_argument('--amp', action='store_true',
                        help='mixed precision; bfloat16 on a CPU')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help='scale the learning rate by the real total batch size over '
        'auto_scale_lr.base_batch_size')
    add_common_arguments(parser)
    return parser


def use_amp(cfg: Config) -> None:
    """Turn the plain optimizer wrapper into the mixed-precision one."""
    device = get_device()
    if device == 'mps':
        raise UserError("--amp works with CUDA, NPU, MLU, MUSA and on CPUs, "
                        "not on 'mps'; leave it out")
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f"--amp replaces optim_wrapper.type 'OptimWrapper', "
                        f"not '{wrapper}'")
    if device == 'cpu':
        cfg.optim_wrapper.type = 'mmtlalign.BFloat16OptimWrapper'
        return
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def scale_lr(cfg: Config) -> None:
    """Switch on mmengine's scaling of the learning rate."""
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UserError('--auto-scale-lr needs auto_scale_lr.base_batch_size '
                        'in the config')
    cfg.auto_scale_lr.enable = True


def check_schedule(cfg: Config) -> None:
    """Raise a UserError if training ends before one of its schedules begins.

    Only schedules that last until the end of training are looked at: the host
    takes that end for theirs.
    """
    schedules = cfg.get('param_scheduler') or []
    for schedule in [schedules] if isinstance(schedules, dict) else schedules:
        key = 'max_epochs' if schedule.get('by_epoch', True) else 'max_iters'
        last, begin = cfg.train_cfg.get(key), schedule.get('begin', 0)
        if last is not None and last <= begin and 'end' not in schedule:
            raise UserError(
                f'train_cfg.{key}={last} ends within the warm-up, before '
                f'{schedule["type"]} begins at {begin}; set --cfg-options '
                f'train_cfg.{key}={begin + 1} or more')


def resume(cfg: Config, checkpoint: str) -> None:
    """Make the runner go on from a checkpoint."""
    cfg.resume = True
    cfg.load_from = None if checkpoint == 'auto' else checkpoint


def translate_old_arguments(cfg: Config) -> None:
    """Resume what an older release began; a new training is written anew.

    Raises:
        UserError: With all that has to be changed.
    """
    changes = modernise(cfg.model)
    if changes and not cfg.get('resume'):
        raise UserError(f"config '{cfg.filename}' is written for release 0.1:"
                        f' in its model {"; ".join(changes)}')


def find_start(cfg: Config) -> str | None:
    """The checkpoint that training will start from, if any; it exists."""
    start = cfg.get('load_from')
    if cfg.get('resume') and start is None:
        start = find_latest_checkpoint(cfg.work_dir)
    if start is not None:
        check_file(start, 'checkpoint')
    return start


def check_resumable(checkpoint: dict, start: str) -> None:
    """Raise a UserError if there is nothing but weights to go on from."""
    parts = {**checkpoint, **checkpoint.get('meta', {})}
    missing = [part for part in RESUMED if part not in parts]
    if missing:
        raise UserError(
            f"checkpoint '{start}' cannot be resumed: it has no "
            f'{", ".join(missing)}; to begin a training with its weights, '
            f'give --cfg-options load_from={start} instead of --resume')
    for part, kind in RESUMED.items():
        if not isinstance(parts[part], kind):
            raise UserError(
                f"checkpoint '{start}' cannot be resumed: its {part} is of "
                f'type {type(parts[part]).__name__}, not {kind.__name__}; it '
                'is damaged, resume an earlier one')


def set_weights(runner: Runner, start: str | None, checkpoint: dict | None,
                trust: bool) -> None:
    """See to it that the weights are those that the config names."""
    model = getattr(runner.model, 'module', runner.model)
    if start and checkpoint is not None:
        allowed = [] if runner.cfg.get('resume') else runner.cfg.get(
            'load_from_allowed', [])
        check_weights(model, checkpoint, start, allowed)
        hand_to_host(start, checkpoint)
        runner._load_from = start  # else it looks for the latest once more
        forget_pretrained(model)  # the file may be gone, and is not needed
        print_log(f"Weights: from '{start}'", logger='current')
    elif find_pretrained(model):
        runner.register_hook(dict(type='mmtlalign.VerifyPretrained',
                                  trust=trust))
    else:
        print_log('Weights: random (no init_cfg names a checkpoint)',
                  logger='current')


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    cfg = load_config(args)
    check_schedule(cfg)
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        scale_lr(cfg)
    if args.resume is not None:
        resume(cfg, args.resume)
    translate_old_arguments(cfg)
    start = find_start(cfg)
    checkpoint = load_checkpoint_safely(start, args.trust) if start else None
    if start and checkpoint is not None and cfg.get('resume'):
        check_resumable(checkpoint, start)
    check_host(cfg)
    check_sync_bn(cfg)
    check_data(cfg, 'train', 'val')
    if not start:  # the only case in which that file is read
        check_pretrained_file(cfg)
    make_work_dir(cfg.work_dir)
    use_gloo_without_gpu(cfg)
    threads = set_threads(distributed=cfg.launcher != 'none')

    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    runner = build(cfg)
    keep_parameter_options_off_console(runner.logger)
    print_log(threads, logger='current')
    set_weights(runner, start, checkpoint, args.trust)
    del checkpoint  # which would be in memory as long as the training runs
    if 'StopOnDivergence' not in [type(hook).__name__
                                  for hook in runner.hooks]:
        runner.register_hook(dict(type='mmtlalign.StopOnDivergence'))
    runner.train()
