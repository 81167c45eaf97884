"""What a training starts from: nothing, weights, or an earlier part of it."""

import os.path as osp
import re
from collections.abc import Iterable
from math import isfinite
from pathlib import Path

from mmengine.config import Config

from mmtlalign.checkpoint import check_finite, get_weights, load_checkpoint_safely
from mmtlalign.commands.command_line import check_file
from mmtlalign.commands.work_dir import checkpoints_in
from mmtlalign.engine.hooks.stop_on_divergence import named_tensors
from mmtlalign.errors import DamagedFile, UserError, warn

# What a training goes on from, beside its weights.
RESUMED = dict(epoch=int, iter=int, message_hub=dict, optimizer=dict)
MAY_LACK = dict(legs=list, within_epoch=dict, resume_random_state=dict, ema_state_dict=dict)
SCHEDULES = re.compile(r'^param_scheduler = (dict\(|\[)\s*\w', re.MULTILINE)  # in its config


def read_start(cfg: Config, trust: bool) -> tuple[str | None, dict | None]:
    """The path of the checkpoint that training starts from, if any, and what it holds.

    ``--resume`` without a name takes the one that ``last_checkpoint`` names, by its name alone if
    it lies beside, since work dirs are moved and copied. If that one is gone or damaged, the newest
    sound one beside it is taken, with a warning.

    Args:
        cfg (Config): Its ``resume``, ``load_from`` and ``work_dir`` are read.
        trust (bool): See :func:`load_checkpoint_safely`.

    Raises:
        UserError: If there is no such file, or no sound one, or it holds more than data.
    """
    start = cfg.get('load_from')
    if start is None:
        return read_latest(cfg.work_dir, trust) if cfg.get('resume') else (None, None)
    check_file(start, 'checkpoint')
    if not cfg.get('resume'):
        return start, load_checkpoint_safely(start, trust)
    try:
        return start, read_resumable(start, trust)
    except DamagedFile as error:
        beside = checkpoints_in(osp.dirname(start) or '.')
        sound, _, _ = first_sound([path for path in beside if not path.samefile(start)], trust)
        raise UserError(
            str(error)
            + (f"; the newest sound one beside it is '{sound}': --resume {sound}" if sound else '')
        ) from error


def read_latest(folder: str, trust: bool) -> tuple[str | None, dict | None]:
    """The newest sound checkpoint of a work dir; see :func:`read_start`."""
    named, trouble = read_last_checkpoint(folder)
    found = [named, *map(str, checkpoints_in(folder))]
    start, checkpoint, errors = first_sound(dict.fromkeys(filter(None, found)), trust)
    if start is None and errors:
        raise errors[0]
    if start is None and trouble:
        raise UserError(
            f'{trouble}, and no other checkpoint lies there; give one with --resume '
            f"CHECKPOINT, or begin anew: remove '{osp.join(folder, 'last_checkpoint')}'"
        )
    if troubles := [*filter(None, [trouble]), *map(str, errors)]:
        warn(f"going on from '{start}', the newest sound checkpoint: {'; '.join(troubles)}")
    return start, checkpoint


def read_last_checkpoint(folder: str) -> tuple[str | None, str | None]:
    """What ``last_checkpoint`` names, and what is wrong with it."""
    path = Path(folder, 'last_checkpoint')
    if not path.is_file():
        return None, f"'{path}' is missing" if checkpoints_in(folder) else None
    try:
        named = path.read_text().strip()
    except UnicodeDecodeError:
        return None, f"'{path}' is no text"
    if not named or '\0' in named or len(named.splitlines()) > 1:
        return None, f"'{path}' names no file"
    for candidate in (osp.join(folder, osp.basename(named)), named):
        if osp.isfile(candidate):
            return candidate, None
    return None, f"'{path}' names '{named}', which does not exist"


def first_sound(paths: Iterable, trust: bool) -> tuple[str | None, dict | None, list[DamagedFile]]:
    """The first checkpoint that can be resumed, its content, and what is
    wrong with those before it."""
    errors: list[DamagedFile] = []
    for path in map(str, paths):
        try:
            return path, read_resumable(path, trust), errors
        except DamagedFile as error:
            errors.append(error)
    return None, None, errors


def read_resumable(path: str, trust: bool) -> dict:
    """A checkpoint with all that a training goes on from.

    Raises:
        DamagedFile: If it is cut short or altered, or parts are not what they should be.
        UserError: If it holds code, or never was more than weights.
    """
    checkpoint = load_checkpoint_safely(path, trust)
    check_resumable(checkpoint, path)
    resumed = {part: checkpoint.get(part) for part in ('ema_state_dict', 'optimizer')}
    check_finite({**get_weights(checkpoint, path), **dict(named_tensors(resumed))}, path)
    return checkpoint


def check_resumable(checkpoint: dict, start: str) -> None:
    """Raise if there is nothing but weights to go on from."""
    parts = {**checkpoint, **checkpoint.get('meta', {})}
    if missing := [part for part in RESUMED if part not in parts]:
        raise UserError(
            f"checkpoint '{start}' cannot be resumed: it has no "
            f'{", ".join(missing)}; to begin a training with its weights, '
            f'give --cfg-options load_from={start} instead of --resume'
        )
    for part, kind in (RESUMED | MAY_LACK).items():
        value = parts.get(part, kind())  # which some lack
        if not isinstance(value, kind) or value is True:
            raise damaged(start, f'{part} is of type {type(value).__name__}, not {kind.__name__}')
        if isinstance(value, int) and value < 0:
            raise damaged(start, f'{part} is {value}')
    hub = parts['message_hub']
    for part in ('log_scalars', 'runtime_info', 'resumed_keys'):
        if not isinstance(hub.get(part), dict):
            raise damaged(start, f'message_hub has no {part}')
    for part in ('state', 'param_groups'):
        if part not in parts['optimizer'] and not all(
            isinstance(one, dict) and part in one for one in parts['optimizer'].values()
        ):
            raise damaged(start, f'optimizer has no {part}')
    check_contents(parts, start)


def check_contents(parts: dict, start: str) -> None:
    """Raise if a training cannot go on with what the parts hold."""
    info = parts['message_hub']['runtime_info']
    if isinstance(total := info.get('max_iters'), int) and parts['iter'] > total:
        raise damaged(start, f'iter is {parts["iter"]:.3g}, beyond its total of {total}')
    kept = info.get('keep_ckpt_ids', [])
    if not (isinstance(kept, list) and all(type(step) is int for step in kept)):
        raise damaged(start, f'message_hub has {kept!r:.40} for the checkpoints that are kept')
    schedules, optimizer = parts.get('param_schedulers'), parts['optimizer']
    if SCHEDULES.search(str(parts.get('cfg'))) and not isinstance(schedules or 0, (list, dict)):
        raise damaged(start, 'param_schedulers are missing: the learning rate would begin anew')
    optimizers = [optimizer] if 'param_groups' in optimizer else [*optimizer.values()]
    within = parts.get('within_epoch') or dict(batches=0, states=[])
    try:
        sound = all(isfinite(group['lr']) for one in optimizers for group in one['param_groups'])
        sound &= type(within['batches']) is int and all(
            isinstance(s, dict) for s in within['states']
        )
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise damaged(start, 'optimizer or within_epoch holds what it cannot go on with')


def damaged(path: str, what: str) -> DamagedFile:
    """The error for a part that is not what it was."""
    return DamagedFile(
        f"checkpoint '{path}' cannot be resumed: its {what}; it is damaged, resume an earlier one"
    )
