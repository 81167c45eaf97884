"""Values of a config that no run can be made with."""

import re
from math import inf, isfinite
from types import UnionType
from typing import NamedTuple

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS

from mmtlalign.config_nodes import walk
from mmtlalign.errors import UserError
from mmtlalign.errors.kinds import unknown_type


class Limit(NamedTuple):
    """What the values of some keys must be.

    ``low`` is the least one, and excluded if ``above``.
    """

    keys: str
    whole: bool = True
    low: float = 1
    high: float = inf
    above: bool = False

    def __str__(self) -> str:
        kind = 'a whole number' if self.whole else 'a finite number'
        if self.high < inf:
            return f'{kind} from {self.low} to {self.high}'
        return f'{kind} {"above" if self.above else "of at least"} {self.low}'

    def holds(self, value) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return (
            isfinite(value)
            and self.low <= value <= self.high
            and not (self.above and value == self.low)
        )


class Choice(NamedTuple):
    """What else the values of some keys must be: of a type, or one of a few."""

    keys: str
    allowed: type | UnionType | tuple
    name: str

    def __str__(self) -> str:
        return self.name

    def holds(self, value) -> bool:
        if isinstance(self.allowed, tuple):
            return value in self.allowed
        return isinstance(value, self.allowed)


LOADER = r'(train|val|test)_dataloader\.'
LIMITS = (
    Limit(LOADER + r'(batch_size|prefetch_factor)'),
    Limit(LOADER + 'num_workers', low=0),
    Limit(LOADER + r'(.*\.)?times'),
    Limit(r'(val|test)_evaluator(\.\d+)?\.topk(\.\d+)?'),
    Limit(r'model\.(.*\.)?(drop|drop_path|attn_drop|dropout)_(rate|ratio)', False, 0, 1),
    Limit(r'model\.(.*\.)?loss_weight', whole=False, low=0),
    Limit(r'(model\.)?data_preprocessor\.std\.\d+', whole=False, low=0, above=True),
    Limit(r'train_cfg\.(max_epochs|max_iters|val_interval)'),
    Limit(r'train_cfg\.val_begin', low=0),
    Limit(r'optim_wrapper\.accumulative_counts'),
    Limit(r'optim_wrapper(\.\w+)?\.optimizer\.(lr|weight_decay|eps|momentum)', whole=False, low=0),
    Limit(r'optim_wrapper(\.\w+)?\.optimizer\.betas\.\d', whole=False, low=0, high=1),
    Limit(r'optim_wrapper\.clip_grad\.(max_norm|clip_value)', whole=False, low=0, above=True),
    Limit(r'optim_wrapper\.paramwise_cfg\.(.*\.)?\w+_(mult|rate)', whole=False, low=0),
    Limit(r'param_scheduler(\.\d+)?\.(begin|end)', low=0),
    Limit(r'param_scheduler(\.\d+)?\.(T_max|total_iters|step_size)'),
    Limit(r'param_scheduler(\.\d+)?\.(eta_min|gamma|(start_|end_)?factor|power)', False, 0),
    Limit(r'randomness\.seed', low=0, high=2**32 - 1),
    Limit(r'auto_scale_lr\.base_batch_size'),
    Limit(r'default_hooks\.logger\.interval'),
    Limit(r'default_hooks\.checkpoint\.(interval|max_keep_ckpts)', low=-1),
    Limit(r'model\.(.*\.)?num_classes'),
    Limit(r'env_cfg\.dist_cfg\.timeout', whole=False, low=0, above=True),
)
FLAGS = (
    r'train_cfg\.by_epoch|randomness\.(deterministic|diff_rank_seed)|resume|auto_scale_lr\.enable|'
    r'env_cfg\.cudnn_benchmark|find_unused_parameters|'
    r'param_scheduler(\.\d+)?\.(by_epoch|convert_to_iter_based)|'
    r'(model\.)?data_preprocessor\.(to_rgb|bgr_to_rgb|rgb_to_bgr)|'
    + LOADER
    + r'(drop_last|pin_memory|persistent_workers|sampler\.shuffle)'
)
# Without a launcher, the host reads few of these.
CHOICES = (
    Choice(FLAGS, (True, False), 'True or False'),
    Choice(LOADER + r'(.*\.)?pipeline', list | tuple, 'a list'),
    Choice(LOADER + r'(.*\.)?data_prefix', dict | str, 'a dict or a path'),
    Choice(r'model\.(.*\.)?init_cfg', dict | list | tuple, 'a dict or a list'),
    Choice('load_from|work_dir', str, 'a path'),
    Choice('compile', bool | dict, 'True, False or a dict'),
    Choice(r'env_cfg(\.(mp|dist)_cfg)?|model_wrapper_cfg|auto_scale_lr', dict, 'a dict'),
    Choice(r'env_cfg\.dist_cfg\.(init_)?backend', str, 'a name'),
    Choice('sync_bn', ('torch', 'mmcv'), "'torch' or 'mmcv'"),
)
# What the hosts take to mean that nothing is said.
MAY_BE_NONE = (
    r'randomness\.seed|train_cfg\..*|param_scheduler.*|'
    r'optim_wrapper\.clip_grad.*|.*\.prefetch_factor|env_cfg\.dist_cfg\.timeout|'
    r'model_wrapper_cfg|auto_scale_lr|find_unused_parameters|sync_bn|'
    r'load_from|resume|compile|.*\.(init_cfg|data_prefix|\w+_(rate|ratio))'
)


def check_values(cfg: Config) -> None:
    """Raise a UserError for the first value that is outside its limits."""
    for key, value in walk(cfg.to_dict()):
        is_nested = isinstance(value, (dict, list, tuple))
        for limit in CHOICES if is_nested else (*CHOICES, *LIMITS):
            if not re.fullmatch(limit.keys, key) or limit.holds(value):
                continue
            if value is None and re.fullmatch(MAY_BE_NONE, key):
                continue
            raise UserError(
                f'{key}={value!r} must be {limit}; set another with --cfg-options {key}=VALUE'
            )
    check_optimizer(cfg)


def check_optimizer(cfg: Config) -> None:
    """Raise a UserError for an optimizer that there is not: the host would
    find out after all data have been read."""
    wrapper = cfg.get('optim_wrapper') or {}
    scope = cfg.get('default_scope', 'mmengine')
    with OPTIMIZERS.switch_scope_and_registry(scope) as registry:
        for part in (wrapper, *wrapper.values()):
            kind = isinstance(part, dict) and (part.get('optimizer') or {}).get('type')
            if isinstance(kind, str) and registry.get(kind) is None:
                raise UserError(unknown_type(kind, registry))
