"""Make a checkpoint of a training into the files that people download.

    mmtlalign publish work_dirs/NAME/epoch_300.pth zoo

writes NAME_YYYYMMDD-hash8.pth and .safetensors: weights and a plain record of
how they came about, nothing of the optimizer. The hash is the beginning of
the sha256 of the file that bears it, the date that of the training's end. The
log of the training, where it lies beside the checkpoint, goes with them as
NAME_YYYYMMDD.log.json.

    mmtlalign publish CHECKPOINT FOLDER --format hf --upload OWNER/NAME

writes FOLDER/NAME/ with weights, config.json and a model card for timm and the
Hugging Face hub, and sends it there.
"""

import argparse
import os.path as osp
import re
from pathlib import Path

from mmengine.config import Config
from torch import nn

from mmtlalign.apis import get_model, hf_folder
from mmtlalign.apis.model_card import read_interval
from mmtlalign.checkpoint import load_checkpoint_safely, load_strictly, publishing
from mmtlalign.checkpoint.plain_types import check_plain_types
from mmtlalign.checkpoint.pretrained import BUFFERS
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
    parser.add_argument(
        '--format',
        choices=['openmmlab', 'hf'],
        default='openmmlab',
        help='hf: a folder that timm loads, of a ViT, DeiT or Swin (default: %(default)s)',
    )
    hub = parser.add_argument_group('with --format hf')
    hub.add_argument('--upload', metavar='REPO', help='also send the folder to the hub')
    hub.add_argument(
        '--license', default='apache-2.0', help='of the weights (default: %(default)s)'
    )
    hub.add_argument(
        '--bootstrap',
        metavar='FILE.json',
        help='interval to print: the file that `mmtlalign test --bootstrap` writes',
    )
    add_trust_argument(parser)
    return parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What is given, if it fits together and can be done."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.format == 'hf' and args.backbone_only:
        parser.error('--format hf is for whole classifiers: leave out --backbone-only')
    if args.format != 'hf' and (args.upload or args.bootstrap):
        parser.error('--upload and --bootstrap go with --format hf')
    check_file(args.checkpoint, 'checkpoint')
    for path, what in ((args.metrics, 'metrics file'), (args.bootstrap, 'file of --bootstrap')):
        if path:
            check_file(path, what)
    if args.format == 'hf':
        hf_folder.import_timm()
    if args.upload:
        hf_folder.check_upload(args.upload)
    return args


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


def publish_folder(args: argparse.Namespace, state: dict, info: dict, cfg: Config) -> None:
    """Write the folder for timm, and send it where it is wanted."""
    interval = read_interval(args.bootstrap) if args.bootstrap else None
    model = build_model(cfg, args.checkpoint, args.trust)
    load_strictly(model, state, args.checkpoint, may_lack=[BUFFERS])
    folder = Path(args.out_dir, info['name'])
    source = f'hf-hub:{args.upload}' if args.upload else f'local-dir:{folder.name}'
    difference = hf_folder.write_folder(
        folder, state, model, cfg, info, args.license, source, interval
    )
    print(
        f"{folder}: timm.create_model('local-dir:{folder}', pretrained=True) gives the same "
        f'logits to {difference:.1e}'
    )
    if args.upload:
        print(hf_folder.upload(folder, args.upload))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    make_out_folder(args.out_dir, 'out_dir')
    metrics = publishing.read_metrics(args.metrics) if args.metrics else {}
    checkpoint = load_checkpoint_safely(args.checkpoint, args.trust)
    meta = checkpoint.get('meta', {})
    record = meta if args.format == 'hf' and 'config' in meta else {}  # of the zoo
    if record:
        checkpoint['meta'] = meta = dict(cfg=record['config'])
    publishing.check_meta(meta, args.checkpoint)
    folder_name = osp.basename(osp.dirname(osp.abspath(args.checkpoint))).replace(' ', '_')
    name = args.name or record.get('name') or folder_name
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
    if record:
        info = dict(record, name=name, metrics=metrics or record.get('metrics'))
    else:
        info = publishing.describe(checkpoint, cfg, name, args.raw, metrics)
    if args.format == 'hf':
        publish_folder(args, state, info, cfg)
        return
    stem = f'{name}_{publishing.finished_on(checkpoint):%Y%m%d}'
    log = read_log(args.checkpoint, checkpoint['meta'])
    log_file = Path(args.out_dir, f'{stem}.log.json')
    publishing.check_log(log_file, log)
    publishing.check_fits(state, build_model(cfg, args.checkpoint, args.trust), args.checkpoint)
    for path in publishing.write(state, info, args.out_dir, stem):
        print(
            f'{path}  {path.stat().st_size / 2**20:.1f} MiB, '
            f'{len(state)} tensors, {info["weights"]}'
        )
    if log:
        write_whole(log_file, log)
        print(f'{log_file}  log of the training')
