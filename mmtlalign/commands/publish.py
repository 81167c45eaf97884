"""Make a checkpoint of a training into the files that people download.

    mmtlalign publish work_dirs/NAME/epoch_300.pth zoo

writes NAME_YYYYMMDD-hash8.pth and .safetensors: weights and a plain record of
how they came about, nothing of the optimizer. The hash is the beginning of
the sha256 of the file that bears it, the date that of the training's end. The
log of the training, where it lies beside the checkpoint, goes with them as
NAME_YYYYMMDD.log.json.
"""

import argparse
import os.path as osp
import re
from pathlib import Path

from mmengine.config import Config
from torch import nn

from mmtlalign.apis import get_model
from mmtlalign.checkpoint import load_checkpoint_safely, publishing
from mmtlalign.checkpoint.plain_types import check_plain_types
from mmtlalign.checkpoint.training_record import read_config, read_log
from mmtlalign.commands.command_line import (
    add_trust_argument,
    check_file,
    make_out_folder,
    new_parser,
)
from mmtlalign.errors import UserError
from mmtlalign.output_files import write_whole


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('checkpoint', help='written by tools/train.py')
    parser.add_argument('out_dir', help='folder for the two files')
    parser.add_argument(
        '--name',
        help="the files' (default: the folder of the checkpoint, "
        'which tools/train.py names after the config)',
    )
    parser.add_argument(
        '--raw',
        action='store_true',
        help='the weights of the last step instead of their moving average '
        '(for trainings with an EMAHook)',
    )
    parser.add_argument('--backbone-only', action='store_true', help='leave the head out')
    parser.add_argument('--half', action='store_true', help='store weights in 16 bits')
    parser.add_argument(
        '--metrics',
        metavar='FILE.json',
        help='results to record: the file that tools/test.py writes',
    )
    add_trust_argument(parser)
    return parser


def build_model(cfg: Config, path: str, trust: bool) -> nn.Module:
    """The config's model; without trust, of types that only make layers.

    mmengine imports and calls what any other type names, ``os.system`` too.
    """
    if not trust:
        check_plain_types(cfg, path)
    try:
        return get_model(cfg)
    except KeyError as error:
        raise UserError(
            f"checkpoint '{path}': its model cannot be built "
            f'({error}); pass --trust to import what its '
            'config names'
        ) from error


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    check_file(args.checkpoint, 'checkpoint')
    if args.metrics:
        check_file(args.metrics, 'metrics file')
    make_out_folder(args.out_dir, 'out_dir')
    metrics = publishing.read_metrics(args.metrics) if args.metrics else {}
    checkpoint = load_checkpoint_safely(args.checkpoint, args.trust)
    publishing.check_meta(checkpoint.get('meta', {}), args.checkpoint)
    name = args.name or osp.basename(osp.dirname(osp.abspath(args.checkpoint)))
    if not re.fullmatch(r'[\w.-]+', name):
        raise UserError(
            f"name '{name}' may hold letters, digits, '_', '-' and '.'; give another with --name"
        )
    state = publishing.prepare(
        publishing.choose_weights(checkpoint, args.checkpoint, args.raw),
        args.checkpoint,
        args.backbone_only,
        args.half,
    )
    cfg = read_config(checkpoint['meta']['cfg'], args.checkpoint, args.trust)
    info = publishing.describe(checkpoint, cfg, name, args.raw, metrics)
    stem = f'{name}_{publishing.finished_on(checkpoint):%Y%m%d}'
    log = read_log(args.checkpoint, checkpoint['meta'])
    log_file = Path(args.out_dir, f'{stem}.log.json')
    publishing.check_log(log_file, log)
    model = build_model(cfg, args.checkpoint, args.trust)
    for path in publishing.write(state, info, args.out_dir, stem, model):
        print(
            f'{path}  {path.stat().st_size / 2**20:.1f} MiB, '
            f'{len(state)} tensors, {info["weights"]}'
        )
    if log:
        write_whole(log_file, log)
        print(f'{log_file}  log of the training')
