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
import json
import os.path as osp
import re
import tempfile
from datetime import date, datetime
from math import isfinite
from pathlib import Path

import torch
from mmengine.config import Config
from safetensors.torch import load_file, save
from torch import Tensor, nn

import mmtlalign
from mmtlalign.apis import get_model
from mmtlalign.checkpoint import get_weights, hash8, load_checkpoint_safely, load_strictly
from mmtlalign.checkpoint.plain_types import check_plain_types
from mmtlalign.checkpoint.training_record import (
    find_command,
    read_config,
    read_log,
    split_version,
    tell_legs,
)
from mmtlalign.commands.command_line import (
    add_trust_argument,
    check_file,
    make_out_folder,
    new_parser,
)
from mmtlalign.commands.hf_folder import check_upload, import_timm, upload, write_folder
from mmtlalign.commands.model_card import read_interval
from mmtlalign.errors import UserError
from mmtlalign.output_files import save_whole, write_whole


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
    """What is given, if it fits together."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.format == 'hf' and args.backbone_only:
        parser.error('--format hf is for whole classifiers: leave out --backbone-only')
    if args.format != 'hf' and (args.upload or args.bootstrap):
        parser.error('--upload and --bootstrap go with --format hf')
    if args.format == 'hf':
        import_timm()
    if args.upload:
        check_upload(args.upload)
    return args


def check_meta(meta: dict, path: str) -> None:
    """Raise a UserError if the record lacks the config, or is none of
    mmengine's."""
    if 'cfg' not in meta:
        raise UserError(
            f"checkpoint '{path}' does not hold the config it was "
            'trained with; publish one that tools/train.py has '
            'written'
        )
    for key in ('cfg', 'experiment_name', 'mmengine_version', 'time'):
        if not isinstance(meta.get(key, ''), str):
            raise UserError(
                f"checkpoint '{path}': meta.{key} is "
                f'{meta[key]!r:.50}, not a string; publish one '
                'that tools/train.py has written'
            )


def choose_weights(checkpoint: dict, path: str, raw: bool) -> dict:
    """The averaged weights, or those of the last step.

    mmengine's EMAHook exchanges the two when it saves: ``state_dict`` holds
    the average and ``ema_state_dict`` what was trained.

    Raises:
        UserError: ``raw``, but the training took no average, or the file
            lacks weights of the last step.
    """
    state = get_weights(checkpoint, path)
    if not raw:
        return state
    if 'ema_state_dict' not in checkpoint:
        raise UserError(
            f"checkpoint '{path}' comes from a training without "
            'an EMAHook and holds one set of weights: leave out '
            '--raw'
        )
    trained = {
        key.removeprefix('module.'): value
        for key, value in checkpoint['ema_state_dict'].items()
        if key.startswith('module.')
    }
    lacking = [key for key in state if key not in trained]
    if lacking:  # what state holds under these keys is an average
        raise UserError(
            f"checkpoint '{path}' lacks {len(lacking)} of "
            f'{len(state)} weights of the last step (first: '
            f'module.{lacking[0]} of its ema_state_dict): leave '
            'out --raw'
        )
    return {key: trained[key] for key in state}


def prepare(state: dict, path: str, backbone_only: bool, half: bool) -> dict[str, Tensor]:
    """Plain CPU tensors, each with memory of its own.

    Raises:
        UserError: Where a weight is not finite, or nothing is left.
    """
    if backbone_only:
        state = {key: value for key, value in state.items() if key.startswith('backbone.')}
    if not state:
        raise UserError(f"checkpoint '{path}' has no weights of a backbone")
    for key, value in state.items():
        if not value.isfinite().all():
            raise UserError(
                f"checkpoint '{path}': {key} is not finite; the "
                'training has diverged, publish an earlier one'
            )
        if half and value.is_floating_point():
            if value.abs().amax() > torch.finfo(torch.float16).max:
                raise UserError(
                    f"checkpoint '{path}': {key} is too large for 16 bits; leave out --half"
                )
            value = value.half()
        state[key] = value.detach().cpu().clone().contiguous()
    return state


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


def describe(checkpoint: dict, cfg: Config, name: str, args) -> dict:
    """How the weights came about, in strings, numbers, lists and dicts."""
    meta = checkpoint['meta']
    command, beyond_command = find_command(cfg, name, meta.get('seed'))
    beyond_command = '; '.join(filter(None, [beyond_command, *tell_legs(meta)]))
    mmengine, commit = split_version(meta)
    # classes and colours, in tuples or arrays
    dataset_meta = json.loads(json.dumps(meta.get('dataset_meta') or {}, default=list))
    return dict(
        name=name,
        config=meta['cfg'],
        dataset_meta=dataset_meta,
        seed=meta.get('seed'),
        epoch=meta.get('epoch'),
        iter=meta.get('iter'),
        weights='last step'
        if args.raw
        else ('average' if 'ema_state_dict' in checkpoint else 'last step'),
        command=command,
        beyond_command=beyond_command,
        metrics=read_metrics(args.metrics),
        versions=dict(mmengine=mmengine, commit=commit),
        published_with=dict(mmtlalign=mmtlalign.__version__, torch=str(torch.__version__)),
    )


def read_metrics(path: str | None) -> dict:
    """The results in a JSON file of tools/test.py.

    Raises:
        UserError: If there is no such file, or no figures or one that is not
            finite in it.
    """
    if not path:
        return {}
    check_file(path, 'metrics file')
    try:
        with open(path) as file:
            metrics = json.load(file)
    except ValueError as error:
        raise UserError(f"metrics file '{path}' is no JSON ({error})") from None
    if not isinstance(metrics, dict):
        raise UserError(
            f"metrics file '{path}' holds a "
            f'{type(metrics).__name__}, not figures by name; give '
            'the one that tools/test.py writes'
        )
    metrics = {
        key: value
        for key, value in metrics.items()
        if isinstance(value, (int, float, str))
        and not isinstance(value, bool)
        and key not in ('time', 'data_time')
    }
    for key, value in metrics.items():
        if isinstance(value, float) and not isfinite(value):  # not in JSON
            raise UserError(
                f"metrics file '{path}': {key} is {value}, not a "
                'finite number; test again, or take it out'
            )
    return metrics


def finished_on(checkpoint: dict) -> date:
    """The day the checkpoint was saved, today if it does not say."""
    time = checkpoint.get('meta', {}).get('time', '')
    try:
        return datetime.strptime(time, '%Y%m%d_%H%M%S').date()
    except ValueError:
        return date.today()


def publish(state: dict, info: dict, out_dir: str, stem: str, module: nn.Module) -> list[Path]:
    """Write both formats, read them back, and give them their names.

    Returns:
        list[Path]: ``{stem}-{hash8}.pth`` and ``.safetensors``.
    """
    out = Path(out_dir)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        pth = Path(folder, f'{stem}.pth')
        save_whole(dict(meta=info, state_dict=state), pth)
        safe = Path(folder, f'{stem}.safetensors')
        write_whole(safe, save(state, dict(meta=json.dumps(info))))
        read = load_checkpoint_safely(str(pth))
        for path, found in ((pth, read['state_dict']), (safe, load_file(safe))):
            verify(path, found, state, module)
        return [path.rename(out / f'{stem}-{hash8(path)}{path.suffix}') for path in (pth, safe)]


def check_log(path: Path, log: str) -> None:
    """Raise a UserError if the log of another training would be lost."""
    if log and path.exists() and path.read_text() != log:
        raise UserError(
            f"'{path}' is the log of another training, or of less "
            'of this one; remove it, or publish to another folder '
            'or under another --name'
        )


def verify(path: Path, found: dict, state: dict, module: nn.Module) -> None:
    """Hold what was read back against what was written, and load it."""
    if found.keys() != state.keys() or not all(
        torch.equal(found[key], state[key]) for key in state
    ):
        raise UserError(f"'{path}' does not read back as it was written; is the disk full?")
    prefix = '' if has_head(found) else 'backbone.'
    load_strictly(
        module.get_submodule(prefix.rstrip('.')),
        {key.removeprefix(prefix): value for key, value in found.items()},
        str(path),
    )


def has_head(state: dict) -> bool:
    """Whether there is more than a backbone."""
    return not all(key.startswith('backbone.') for key in state)


def publish_folder(args: argparse.Namespace, state: dict, info: dict, cfg: Config) -> None:
    """Write the folder for timm, and send it where it is wanted."""
    interval = read_interval(args.bootstrap)
    model = build_model(cfg, args.checkpoint, args.trust)
    folder = Path(args.out_dir, info['name'])
    load_strictly(model, state, args.checkpoint)
    source = f'hf-hub:{args.upload}' if args.upload else f'local-dir:{folder.name}'
    difference = write_folder(folder, state, model, cfg, info, args.license, source, interval)
    print(
        f"{folder}: timm.create_model('local-dir:{folder}', pretrained=True) gives the same "
        f'logits to {difference:.1e}'
    )
    if args.upload:
        print(upload(folder, args.upload))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    check_file(args.checkpoint, 'checkpoint')
    make_out_folder(args.out_dir, 'out_dir')
    checkpoint = load_checkpoint_safely(args.checkpoint, args.trust)
    meta = checkpoint.get('meta', {})
    record = meta if args.format == 'hf' and 'config' in meta else None  # of the zoo
    if record:
        checkpoint['meta'] = meta = dict(cfg=record['config'])
    check_meta(meta, args.checkpoint)
    folder_name = osp.basename(osp.dirname(osp.abspath(args.checkpoint)))
    name = args.name or (record or {}).get('name') or folder_name
    if not re.fullmatch(r'[\w.-]+', name):
        raise UserError(
            f"name '{name}' may hold letters, digits, '_', '-' and '.'; give another with --name"
        )
    state = prepare(
        choose_weights(checkpoint, args.checkpoint, args.raw),
        args.checkpoint,
        args.backbone_only,
        args.half,
    )
    cfg = read_config(checkpoint['meta']['cfg'], args.checkpoint, args.trust)
    if record:
        metrics = read_metrics(args.metrics) or record.get('metrics')
        info = dict(record, name=name, metrics=metrics)
    else:
        info = describe(checkpoint, cfg, name, args)
    if args.format == 'hf':
        publish_folder(args, state, info, cfg)
        return
    stem = f'{name}_{finished_on(checkpoint):%Y%m%d}'
    log = read_log(args.checkpoint, checkpoint['meta'])
    log_file = Path(args.out_dir, f'{stem}.log.json')
    check_log(log_file, log)
    model = build_model(cfg, args.checkpoint, args.trust)
    paths = publish(state, info, args.out_dir, stem, model)
    for path in paths:
        print(
            f'{path}  {path.stat().st_size / 2**20:.1f} MiB, '
            f'{len(state)} tensors, {info["weights"]}'
        )
    if log:
        write_whole(log_file, log)
        print(f'{log_file}  log of the training')
