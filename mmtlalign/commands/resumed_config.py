"""What resumes is what ran: a checkpoint's config against today's."""

import os
import re
from collections.abc import Iterable, Iterator
from copy import deepcopy

from mmengine.config import Config

from mmtlalign.checkpoint.training_record import ABSENT, find_differences, read_literals
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.commands.unread_keys import READ
from mmtlalign.errors import UserError, warn
from mmtlalign.old_arguments import modernise

# Entries that make a training what it is, all below them included.
OF_THE_RUN = """
    model data_preprocessor optim_wrapper param_scheduler train_cfg train_dataloader randomness
    auto_scale_lr""".split()
# But for these: where data lie, who reads them, how often is looked at it,
# and where weights came from that have been replaced since.
FREE = re.compile(
    r'(.*\.)?(data_root|data_prefix|ann_file|store|num_workers|backend_args|'
    r'persistent_workers|pin_memory|prefetch_factor|file_client_args|'
    r'init_cfg|pretrained|with_cp|val_interval|val_begin|dynamic_intervals|'
    r'batch_size|accumulative_counts)(\..*)?|auto_scale_lr(\..*)?|'
    r'randomness\.(deterministic|diff_rank_seed)|'
    r'train_dataloader\.(multiprocessing_context|timeout)'
)
LENGTHS = ('train_cfg.max_', 'param_scheduler')  # what --extend changes
TOO_DEEP = (RecursionError, MemoryError)  # of Python's parser
# Hooks that change weights, data or losses; others only watch, as far as can be known.
TRAINING = re.compile(
    r'(.*\.)?(.*EMA.*|SWAHook|.*Switch.*|DenseCLHook|MeanTeacherHook|PreciseBNHook|'
    r'SetAdaptiveMarginsHook|SetEpochInfoHook|SimSiamHook|SwAVHook|WarmupParamHook)'
)


def check_same_run(
    cfg: Config,
    checkpoint: dict,
    path: str,
    accepted: Iterable[str] = (),
    extend: int | None = None,
) -> list[str]:
    """Hold the config that a checkpoint was trained with against today's.

    Args:
        cfg (Config): Today's. Modified if ``extend`` is given, and if it gives no seed, which then
            is the checkpoint's.
        checkpoint (dict): Read as data.
        path (str): Only for messages.
        accepted (Iterable[str]): Keys that may differ, with all below them.
        extend (int, optional): New total of epochs or iterations.

    Returns:
        list[str]: What differs and is accepted.

    Raises:
        UserError: Naming all entries that differ and may not, with both values.
    """
    for key in accepted:
        if key.strip('.').partition('.')[0] not in READ:
            raise UserError(f'--accept {key}: no entry of this name is read; name one that differs')
    meta = checkpoint['meta']
    if (cfg.get('randomness') or {}).get('seed') is None and isinstance(meta.get('seed'), int):
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=meta['seed'])
    try:
        before = Config(read_literals(meta['cfg']))
        modernise(before.model)
        use_own_loaders(before)
    except (LookupError, AttributeError, TypeError, ValueError, SyntaxError, *TOO_DEEP):
        warn(
            f"checkpoint '{path}' holds no config that can be compared with this one: "
            'that they are the same is for you to see'
        )
        before = None
    known = [cfg]
    if extend is not None:
        # the training began with the config's own total, and may have been extended before
        own = total_of(cfg)
        known += [deepcopy(cfg), deepcopy(cfg)]
        for today, total in zip(known, (extend, own, max(own, total_of(before or cfg)))):
            extend_schedule(today, total, epoch_length(checkpoint))
    if before is None:
        return []
    for today in known:
        lines = differences(before, today, meta, accepted)
        if not lines:
            return differences(before, today, meta, ())
    raise UserError(
        f"checkpoint '{path}' is of another run: {'; '.join(lines)}; set them back to go on, "
        'give --accept KEY for each that is meant to change, or begin anew from its weights '
        f'with --cfg-options load_from={path} and another --work-dir'
    )


def differences(before: Config, today: Config, meta: dict, accepted: Iterable[str]) -> list[str]:
    """What differs and may not, an entry each."""
    found = []
    old, new = ({key: comparable(cfg.get(key)) for key in OF_THE_RUN} for cfg in (before, today))
    seed = old['randomness'] or {}
    old['randomness'] = dict(seed, seed=meta.get('seed', seed.get('seed')))
    for keys, value in find_differences(old, new):
        key = '.'.join(map(str, keys))
        if not FREE.fullmatch(key):
            found.append((key, look_up(old, keys), value))
    found += list(other_totals(before, today, meta))
    hooks = [training_hooks(cfg) for cfg in (before, today)]
    if hooks[0] != hooks[1]:
        found.append(('custom_hooks', hooks[0], hooks[1]))
    return [
        f'{key} was {told(was)} and is {told(now)}'
        + (' (--extend N trains longer)' if key.startswith(LENGTHS) else '')
        for key, was, now in found
        if not any(f'{key}.'.startswith(f'{free.strip(".")}.') for free in accepted)
    ]


def other_totals(before: Config, today: Config, meta: dict) -> Iterator[tuple]:
    """The images of an optimizer step, if there are more or less of them."""
    processes = meta.get('world_size')
    alone = today.get('launcher', 'none') == 'none'
    now = int(os.environ.get('WORLD_SIZE', os.environ.get('SLURM_NTASKS', alone)))
    if not processes or not now:  # nobody knows
        processes = now = 1
    totals = [count * images_of_a_step(cfg) for count, cfg in ((processes, before), (now, today))]
    if totals[0] != totals[1]:
        yield ('train_dataloader.batch_size (times processes and accumulative_counts)', *totals)


def images_of_a_step(cfg: Config) -> int:
    """Of one process."""
    batch = (cfg.get('train_dataloader') or {}).get('batch_size') or 1
    return batch * ((cfg.get('optim_wrapper') or {}).get('accumulative_counts') or 1)


def training_hooks(cfg: Config) -> list:
    """Configs of the hooks that are part of a training."""
    hooks = cfg.get('custom_hooks') or []
    return comparable([hook for hook in hooks if TRAINING.fullmatch(str(hook.get('type', '')))])


def epoch_length(checkpoint: dict) -> int | None:
    """Iterations of an epoch, if the checkpoint says so."""
    info = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
    try:
        return info['max_iters'] // info['max_epochs']
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def total_of(cfg: Config) -> int:
    """Epochs or iterations that a config trains for."""
    train = cfg.get('train_cfg') or {}
    total = train.get('max_epochs') or train.get('max_iters')
    return total if isinstance(total, int) else 0


def extend_schedule(cfg: Config, total: int, length: int | None = None) -> None:
    """Give a config another total, not less than its own, and schedules that end with it as well:
    of epochs, or of iterations where training is counted in them. Schedules counted in iterations
    where training is in epochs need the length of an epoch."""
    train = cfg.train_cfg
    key = 'max_epochs' if train.get('max_epochs') else 'max_iters'
    old = total_of(cfg)
    if not old or total < old:
        raise UserError(
            f'--extend {total} is less than train_cfg.{key}={old} of the config; give more'
        )
    train[key] = total
    for schedule in schedules_of(cfg):
        same_unit = schedule.get('by_epoch', True) == (key == 'max_epochs')
        scale = 1 if same_unit else (length or 0) * (key == 'max_epochs')
        if not scale or schedule.get('end', old * scale) != old * scale:
            continue
        if 'end' in schedule:
            schedule['end'] = total * scale
        begin = schedule.get('begin', 0)
        for duration in ('T_max', 'total_iters', 'total_steps'):
            if schedule.get(duration) == old * scale - begin:
                schedule[duration] = total * scale - begin


def schedules_of(cfg: Config) -> list[dict]:
    """Of the learning rate and such."""
    schedules = cfg.get('param_scheduler') or []
    return [schedules] if isinstance(schedules, dict) else schedules


def look_up(node, keys: tuple):
    """The value at some keys of nested dicts; ABSENT if there is none."""
    for key in keys:
        node = node.get(key, ABSENT) if isinstance(node, dict) else ABSENT
    return node


def comparable(node):
    """Dicts, lists in place of tuples, and the rest as it is; dicts in lists
    by their numbers, so that their entries are compared."""
    if isinstance(node, (list, tuple)):
        if not any(isinstance(value, dict) for value in node):
            return [comparable(value) for value in node]
        node = dict(enumerate(node))
    if isinstance(node, dict):
        return {str(key): comparable(value) for key, value in node.items() if key != '_scope_'}
    return deepcopy(node)


def told(value) -> str:
    """A value for a message."""
    return 'absent' if value is ABSENT else f'{value!r:.80}'
