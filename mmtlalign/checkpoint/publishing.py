"""A checkpoint of a training as the files that people download."""

import json
import tempfile
from datetime import date, datetime
from math import isfinite
from pathlib import Path

import torch
from mmengine.config import Config
from safetensors.torch import load_file, save
from torch import Tensor, nn

import mmtlalign
from mmtlalign.errors import UserError
from mmtlalign.output_files import save_whole, write_whole

from .loading import check_finite, get_weights, hash8, load_checkpoint_safely, load_strictly
from .training_record import find_command, split_version, tell_legs


def check_meta(meta: dict, path: str) -> None:
    """Raise a UserError if the record lacks the config, or is none of mmengine's."""

    def refusal(why: str) -> UserError:
        return UserError(f"checkpoint '{path}'{why}; publish one that tools/train.py has written")

    if 'cfg' not in meta:
        raise refusal(' does not hold the config it was trained with')
    for key in ('cfg', 'experiment_name', 'mmengine_version', 'time'):
        if not isinstance(meta.get(key, ''), str):
            raise refusal(f': meta.{key} is {meta[key]!r:.50}, not a string')
    legs = meta.get('legs', [])
    if not isinstance(legs, list) or not all(
        isinstance(leg, dict) and isinstance(leg.get('changes', []), list) for leg in legs
    ):
        raise refusal(f': meta.legs is {legs!r:.50}, not the parts of a training')


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
            f"checkpoint '{path}' comes from a training without an EMAHook and holds one set of "
            'weights: leave out --raw'
        )
    trained = {
        key.removeprefix('module.'): value
        for key, value in checkpoint['ema_state_dict'].items()
        if key.startswith('module.')
    }
    lacking = [key for key in state if key not in trained]
    if lacking:  # what state holds under these keys is an average
        raise UserError(
            f"checkpoint '{path}' lacks {len(lacking)} of {len(state)} weights of the last step "
            f'(first: module.{lacking[0]} of its ema_state_dict): leave out --raw'
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
    check_finite(state, path)
    for key, value in state.items():
        if half and value.is_floating_point():
            if value.abs().amax() > torch.finfo(torch.float16).max:
                raise UserError(
                    f"checkpoint '{path}': {key} is too large for 16 bits; leave out --half"
                )
            value = value.half()
        state[key] = value.detach().cpu().clone().contiguous()
    return state


def describe(checkpoint: dict, cfg: Config, name: str, raw: bool, metrics: dict) -> dict:
    """How the weights came about, in strings, numbers, lists and dicts.

    Args:
        checkpoint (dict): Of the training.
        cfg (Config): Its config, read.
        name (str): That it is published under.
        raw (bool): Whether the weights are those of the last step.
        metrics (dict): Results, see :func:`read_metrics`.
    """
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
        weights='average' if 'ema_state_dict' in checkpoint and not raw else 'last step',
        command=command,
        beyond_command=beyond_command,
        metrics=metrics,
        versions=dict(mmengine=mmengine, commit=commit),
        published_with=dict(mmtlalign=mmtlalign.__version__, torch=str(torch.__version__)),
    )


def read_metrics(path: str) -> dict:
    """The results in a JSON file of tools/test.py.

    Raises:
        UserError: If there are no figures in it, or one that is not finite.
    """
    try:
        with open(path) as file:
            metrics = json.load(file)
    except (ValueError, RecursionError) as error:
        raise UserError(f"metrics file '{path}' is no JSON ({error})") from None
    if not isinstance(metrics, dict):
        raise UserError(
            f"metrics file '{path}' holds a {type(metrics).__name__}, not figures by name; give "
            'the one that tools/test.py writes'
        )
    kept = {}
    for key, value in metrics.items():
        if type(value) not in (int, float, str) or key in ('time', 'data_time'):
            continue
        if isinstance(value, float) and not isfinite(value):  # not in JSON
            raise UserError(
                f"metrics file '{path}': {key} is {value}, not a "
                'finite number; test again, or take it out'
            )
        kept[key] = value
    return kept


def finished_on(checkpoint: dict) -> date:
    """The day the checkpoint was saved, today if it does not say."""
    time = checkpoint.get('meta', {}).get('time', '')
    try:
        return datetime.strptime(time, '%Y%m%d_%H%M%S').date()
    except ValueError:
        return date.today()


def check_fits(state: dict, module: nn.Module, path: str) -> None:
    """Load a checkpoint's weights, or its backbone's, into its model."""
    prefix = '' if has_head(state) else 'backbone.'
    load_strictly(
        module.get_submodule(prefix.rstrip('.')),
        {key.removeprefix(prefix): value for key, value in state.items()},
        path,
    )


def has_head(state: dict) -> bool:
    """Whether there is more than a backbone."""
    return not all(key.startswith('backbone.') for key in state)


def write(state: dict, info: dict, out_dir: str, stem: str) -> list[Path]:
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
            verify(path, found, state)
        return [path.rename(out / f'{stem}-{hash8(path)}{path.suffix}') for path in (pth, safe)]


def check_log(path: Path, log: str) -> None:
    """Raise a UserError if the log of another training would be lost."""
    if log and path.exists() and path.read_text() != log:
        raise UserError(
            f"'{path}' is the log of another training, or of less of this one; remove it, or "
            'publish to another folder or under another --name'
        )


def verify(path: Path, found: dict, state: dict) -> None:
    """Hold what was read back against what was written."""
    if found.keys() != state.keys() or not all(
        torch.equal(found[key], state[key]) for key in state
    ):
        raise UserError(f"'{path}' does not read back as it was written; is the disk full?")
