"""What people expect on a training command, in terms of the host's config."""

import argparse
import os
import shutil
from math import inf

import torch
from mmengine.config import Config
from mmengine.device import get_device

from mmtlalign.commands.command_line import number
from mmtlalign.errors import UserError

COMPILE_MODES = ('default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs')
# Entries that mmengine's FlexibleRunner, or sharding, would pass over.
NOT_SHARDED = """
    activation_checkpointing compile efficient_conv_bn_eval model_wrapper_cfg strategy""".split()
# Of mmengine.
REFUSED_STRATEGIES = dict(
    FSDPStrategy='clips gradients by the norms of single shards and cannot average weights',
    DeepSpeedStrategy='writes folders that nothing here reads',
    ColossalAIStrategy='writes folders that nothing here reads',
)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; :func:`apply_training_options` reads most."""
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16, bfloat16 on a CPU'
    )
    parser.add_argument(
        '--amp-dtype', choices=['fp16', 'bf16'], help='mixed precision in one of the two'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the real total batch size over '
        'auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--compile',
        nargs='?',
        const='default',
        choices=COMPILE_MODES,
        metavar='MODE',
        help=f'torch.compile the training step: {", ".join(COMPILE_MODES)}',
    )
    parser.add_argument(
        '--channels-last',
        action='store_true',
        help='keep weights of convolutions in channels-last order',
    )
    parser.add_argument(
        '--fsdp',
        action='store_true',
        help='shard weights, gradients and optimizer over the processes (FSDP2)',
    )
    parser.add_argument(
        '--seed', type=int, metavar='N', help='of everything that draws, mixing included'
    )
    parser.add_argument(
        '--deterministic', action='store_true', help='only algorithms that repeat bit for bit'
    )
    parser.add_argument(
        '--profile',
        type=number(int, 1),
        metavar='N',
        help='trace the first N steps into the work dir',
    )
    parser.add_argument(
        '--peak-tflops',
        type=float,
        metavar='X',
        help="of a device, for the log's mfu (known for some GPUs in half precision)",
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='build everything, check the data, train two steps, tell memory and hours; '
        'leaves nothing behind',
    )


def apply_training_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write options into a config; a UserError where one cannot work here."""
    if args.peak_tflops is not None and not 0 < args.peak_tflops < inf:
        raise UserError(f'--peak-tflops {args.peak_tflops} must be greater than 0, and finite')
    if args.fsdp:
        use_fsdp(cfg, args)
    use_own_runner(cfg)
    if args.amp or args.amp_dtype:
        use_amp(cfg, args.amp_dtype, args.fsdp)
    if args.auto_scale_lr or (cfg.get('auto_scale_lr') or {}).get('enable'):
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True
    if args.compile:
        use_compile(cfg, args.compile)
    hooks = [dict(type='mmtlalign.ChannelsLast')] * args.channels_last
    if args.profile:
        hooks.append(dict(type='mmtlalign.ProfileSteps', steps=args.profile))
    if hooks:
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *hooks]
    given = dict(seed=args.seed, deterministic=args.deterministic or None)
    given = {key: value for key, value in given.items() if value is not None}
    if given:
        cfg.randomness = dict(cfg.get('randomness') or {}, **given)
    if args.deterministic:  # cuBLAS reads it as it starts
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')


def use_own_runner(cfg: Config) -> None:
    """Let a config's FlexibleRunner build in the order that commands need."""
    if cfg.get('runner_type') == 'FlexibleRunner':
        cfg.runner_type = 'mmtlalign.ShardedRunner'
    strategy = (cfg.get('strategy') or {}).get('type')
    if strategy in REFUSED_STRATEGIES:
        raise UserError(f"strategy.type '{strategy}' {REFUSED_STRATEGIES[strategy]}: give --fsdp")


def use_amp(cfg: Config, dtype: str | None = None, sharded: bool = False) -> None:
    """Turn the optimizer wrapper into a mixed-precision one, by default of the type that works."""
    device = get_device()
    if device == 'mps':
        raise UserError(
            "--amp works with CUDA, NPU, MLU, MUSA and on CPUs, not on 'mps'; leave it out"
        )
    wrapper = cfg.optim_wrapper
    if (name := wrapper.get('type', 'OptimWrapper')) not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f"--amp replaces optim_wrapper.type 'OptimWrapper', not '{name}'")
    only_bf16 = 'a CPU' if device == 'cpu' else 'sharded weights (--fsdp)' if sharded else None
    if dtype == 'fp16' and only_bf16:
        raise UserError(f'--amp-dtype fp16 does not work with {only_bf16}; give --amp-dtype bf16')
    if dtype == 'bf16' and device == 'cuda' and not torch.cuda.is_bf16_supported():
        raise UserError('--amp-dtype bf16: this GPU has no bfloat16; give --amp-dtype fp16')
    if dtype == 'bf16' or only_bf16:
        if 'roi_head' in (cfg.get('model') or {}):
            raise UserError(
                "--amp is bfloat16 here, which mmcv's operators on regions (RoIAlign, NMS) do not "
                'have: leave it out, or train unsharded on a GPU with --amp-dtype fp16'
            )
        wrapper.type = 'mmtlalign.BFloat16OptimWrapper'
        for key in ('loss_scale', 'dtype'):
            wrapper.pop(key, None)
        return
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')
    if dtype:
        wrapper.dtype = 'float16'


def use_compile(cfg: Config, mode: str) -> None:
    """Let the host compile its training step."""
    if get_device() == 'cpu' and not (
        os.environ.get('CXX') or any(map(shutil.which, ('g++', 'clang++', 'c++')))
    ):
        raise UserError('--compile on a CPU needs a C++ compiler (g++), and there is none')
    given = cfg.get('compile')
    cfg.compile = dict(given if isinstance(given, dict) else {}, mode=mode)


def use_fsdp(cfg: Config, args: argparse.Namespace) -> None:
    """Let our runner and strategy shard the model."""
    if cfg.launcher == 'none':
        raise UserError(
            '--fsdp shards over several processes, and --launcher is none; '
            'start them with tools/dist_train.sh'
        )
    named = [name for name in ('compile', 'channels_last', 'extend') if getattr(args, name)]
    if named:
        raise UserError(f'--fsdp does not go with --{named[0].replace("_", "-")}; leave one out')
    set_here = [key for key in NOT_SHARDED if cfg.get(key)]
    if set_here:
        raise UserError(f"--fsdp has no use for '{set_here[0]}' of the config; take it out")
    cfg.runner_type = 'mmtlalign.ShardedRunner'
    cfg.strategy = dict(type='mmtlalign.FSDP2Strategy', sync_bn=cfg.get('sync_bn'))
