"""Entries of a config that nothing reads, and what was probably meant."""

import inspect
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.distributed import init_process_group
from torch.utils.data import DataLoader

from mmtlalign.config_nodes import walk
from mmtlalign.errors import UserError, first_line, warn

# What the hosts' runners and config readers look up at the top of a config.
READ_BY_HOSTS = frozenset(
    """
    activation_checkpointing auto_scale_lr compile custom_hooks custom_imports data_preprocessor
    default_hooks default_scope efficient_conv_bn_eval env_cfg experiment_name
    find_unused_parameters init_weights_for_test_or_val launcher load_from log_level log_processor
    model model_wrapper_cfg optim_wrapper param_scheduler randomness resume runner_type strategy
    sync_bn test_cfg test_dataloader test_evaluator train_cfg train_dataloader val_cfg
    val_dataloader val_evaluator visualizer work_dir""".split()
)
READ_BY_US = frozenset('data_hint load_from_allowed tta_model tta_pipeline'.split())
READ = READ_BY_HOSTS | READ_BY_US

# Settings of mmcv 1.x, and where they are now.
OF_OLDER_HOSTS = dict(
    checkpoint_config='default_hooks.checkpoint',
    evaluation='val_evaluator',
    fp16='optim_wrapper.type',
    log_config='default_hooks.logger',
    lr_config='param_scheduler',
    optimizer='optim_wrapper.optimizer',
    optimizer_config='optim_wrapper.clip_grad',
    runner='train_cfg',
    seed='randomness.seed',
    total_epochs='train_cfg.max_epochs',
    workflow='train_cfg',
)
# Keys that mmengine itself takes out of any dict.
OF_CONFIGS = {'type', '_scope_', '_delete_'}
MULTIPLIERS = ('lr_mult', 'decay_mult')  # of custom_keys
# Of dicts without a type: all that is read, or what reads it and what else is.
KEYS = {
    'auto_scale_lr': 'enable base_batch_size'.split(),
    'env_cfg': 'cudnn_benchmark mp_cfg dist_cfg resource_limit'.split(),
    'optim_wrapper.paramwise_cfg': """
        bias_lr_mult bias_decay_mult norm_decay_mult flat_decay_mult dwconv_decay_mult num_layers
        dcn_offset_lr_mult bypass_duplicate custom_keys layer_decay_rate decay_rate decay_type
        """.split(),
}
LOADER = 'dataset sampler batch_sampler collate_fn worker_init_fn num_batch_per_epoch'.split()
READERS = {
    **{f'{phase}_dataloader': (DataLoader, LOADER) for phase in ('train', 'val', 'test')},
    'env_cfg.dist_cfg': (init_process_group, ['init_backend']),
    'optim_wrapper': (OptimWrapper, 'optimizer paramwise_cfg constructor'.split()),
    'randomness': (Runner.set_randomness, ()),
}
ROOTS = [value for value in vars(registries).values() if isinstance(value, Registry)]


def merge_options(cfg: Config, options: dict, allow_unread: bool = False) -> None:
    """Merge ``--cfg-options``, by dotted keys, into a config; a UserError for one that has no
    place, and, unless that is allowed, for one that nothing reads."""
    for key, value in options.items() if not allow_unread else ():
        check_option(cfg, key, value)
    try:
        cfg.merge_from_dict(options)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        reason = str(error.args[0]) if error.args else first_line(error)
        raise UserError(
            f'--cfg-options {" ".join(options)} has no place in '
            f"'{cfg.filename}' ({reason}); compare its keys with those of the config"
        ) from error


def check_option(cfg: Config, key: str, value) -> None:
    """Raise a UserError if a dotted key is none that something reads, or a
    single value would take the place of entries."""
    top, *parts = key.split('.')
    if top == 'custom_imports':
        raise UserError(f'--cfg-options {key}: a config imports as it is read, before options are')
    if parts[:2] == ['paramwise_cfg', 'custom_keys'] and parts[3:] and parts[-1] not in MULTIPLIERS:
        raise UserError(
            f'--cfg-options {key}: the keys of custom_keys have {" and ".join(MULTIPLIERS)} alone '
            '(--allow-unread sets it all the same)'
        )
    if top not in READ:
        raise unread_variable(cfg, key, top, parts)
    node, path = cfg.get(top), top
    for part in parts:
        if isinstance(node, (list, tuple)) and part.isdigit() and (int(part) < len(node)):
            node, path = node[int(part)], f'{path}.{part}'
        elif isinstance(node, dict) and part in node:
            node, path = node[part], f'{path}.{part}'
        else:  # new, and with it all below
            if isinstance(node, dict) and part not in OF_CONFIGS:
                check_new_key(cfg, path, node, part)
            return
    if isinstance(node, dict) and isinstance(value, (bool, int, float, str)):
        raise UserError(
            f'--cfg-options {key}={value}: {key} has entries ({", ".join(list(node)[:3])}, ...); '
            f'set one of them: {key}.{next(iter(node), "KEY")}=VALUE'
        )


def unread_variable(cfg: Config, key: str, top: str, parts: list[str]) -> UserError:
    """What to say of a key that is none of a config's own."""
    rest = ''.join(f'.{part}' for part in parts)
    if top in cfg:
        what = (
            f"'{top}' is a variable that the config has expanded already, "
            'and setting it now changes nothing'
        )
        near = [path + rest for path, value in nodes(cfg) if value == cfg[top]]
    else:
        what = f"nothing reads '{top}'"
        near = [path for path, _ in nodes(cfg) if path.endswith(f'.{key}')]
        near += [close + rest for close in get_close_matches(top, READ, n=1)]
    near = near[:1] or get_close_matches(key, [path for path, _ in nodes(cfg)], n=1)
    return UserError(
        f'--cfg-options {key}: {what}'
        + (f'; the nearest that is read is {near[0]}' if near else '')
        + ' (--allow-unread sets it all the same)'
    )


def nodes(cfg: Config) -> Iterator[tuple[str, object]]:
    """Dotted paths and values of all that is below what is read."""
    for top in sorted(READ & cfg.keys()):
        yield from walk(cfg[top], top)


def check_new_key(cfg: Config, path: str, node: dict, key: str) -> None:
    """Raise a UserError if what reads the dict that a new key is put into takes no such key."""
    accepted, is_open, whose = reader_of(cfg, path, node)
    if accepted is None or key in accepted:
        return
    if is_open:
        warn(f'{whose} names no {path}.{key}, and takes any: it may have no effect')
        return
    near = get_close_matches(key, sorted(accepted), n=1)
    raise UserError(
        f'--cfg-options {path}.{key}: {whose} takes no {key}'
        + (f'; the nearest that it takes is {path}.{near[0]}' if near else '')
        + ' (--allow-unread sets it all the same)'
    )


def reader_of(cfg: Config, path: str, node: dict) -> tuple[set | None, bool, str]:
    """Keys that a dict may have, whether others may be as well, and who
    says so; None for a dict that anything may be in."""
    if path in KEYS:
        is_open = path == 'optim_wrapper.paramwise_cfg' and 'constructor' in cfg.optim_wrapper
        return set(KEYS[path]), is_open, path
    reader: Any
    reader, more = READERS.get(path, (None, ()))
    if path == 'train_cfg' and 'type' not in node:
        reader = EpochBasedTrainLoop if node.get('by_epoch', True) else IterBasedTrainLoop
        more = ('by_epoch',)
    elif path == 'optim_wrapper' or not reader:
        reader = find_type(cfg, node.get('type')) or reader
    if not reader:
        return None, True, ''
    accepted, is_open = parameters(reader)
    return accepted.union(more), is_open, reader.__name__


def parameters(cls) -> tuple[set[str], bool]:
    """Names that a class or function takes, a class's parents' too if it hands them on, and
    whether it takes any other."""
    names: set[str] = set()
    inits = [vars(parent).get('__init__') for parent in getattr(cls, '__mro__', ())] or [cls]
    for i, init in enumerate(filter(None, inits)):
        found = inspect.signature(init).parameters.values()
        names |= {one.name for one in found} - {'self', 'args', 'kwargs'}
        if not any(one.kind is one.VAR_KEYWORD for one in found):
            return names, i > 0  # the first may use some of them itself
    return names, True


def find_type(cfg: Config, name):
    """The class that a type stands for; None if it is not to be found."""
    if name is None or not isinstance(name, str):
        return name
    for root in ROOTS:
        with (
            suppress(ImportError, AttributeError),  # of a host that is not there
            root.switch_scope_and_registry(cfg.get('default_scope', 'mmengine')) as registry,
        ):
            if (cls := registry.get(name)) is not None:
                return cls
    return None


def unread_variables(cfg: Config) -> dict[str, str]:
    """Top-level names of a config that look like settings, and that nothing
    reads and nothing was made of, with the nearest that is read."""
    spent = [without_scopes(value) for _, value in nodes(cfg)]
    found = {}
    for name in sorted(cfg.keys() - READ):
        near = [OF_OLDER_HOSTS[name]] if name in OF_OLDER_HOSTS else []
        near += get_close_matches(name, READ, n=1, cutoff=0.85)
        if near and without_scopes(cfg[name]) not in spent:
            found[name] = near[0]
    return found


def without_scopes(node):
    """Without the scopes that a host's base marks its entries with."""
    if isinstance(node, dict):
        return {key: without_scopes(value) for key, value in node.items() if key != '_scope_'}
    if isinstance(node, (list, tuple)):
        return [without_scopes(value) for value in node]
    return node
