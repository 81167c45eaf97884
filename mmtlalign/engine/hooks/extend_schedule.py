"""A schedule that ends later than it was meant to when training began."""

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmtlalign.errors import UserError
from mmtlalign.registry import HOOKS


@HOOKS.register_module()
class ExtendSchedule(Hook):
    """Put schedules where they would be, had the new total been the first.

    A resumed schedule is in the state that its checkpoint holds, its end included, and most compute
    each value from the one before: what has decayed to zero stays there. Here the config's
    schedules, with the new total, are stepped through all that has been done, on an optimizer
    without weights, and take the place of the resumed ones. ``tools/train.py`` registers this hook
    for ``--extend``.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Replace the resumed states; say how far the learning rate jumps."""
        if not runner.iter or not runner.param_schedulers:
            return
        wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers
        pairs = [(wrapper, schedulers)]
        if isinstance(wrapper, OptimWrapperDict):
            pairs = [(wrapper[name], schedulers[name]) for name in schedulers]
        for single, resumed in pairs:
            was = single.optimizer.param_groups[0]['lr']
            replay(runner, single, resumed)
            now = single.optimizer.param_groups[0]['lr']
            change = f'jumps from {was:.6g} to {now:.6g}' if now != was else f'stays {now:.6g} here'
            runner.logger.info(f'The schedule is extended: the learning rate {change}')


def replay(runner: Runner, wrapper, resumed: list) -> None:
    """Step new schedulers to where the training is, and copy their state."""
    if any(scheduler.__dict__.get('need_val_args') for scheduler in resumed):
        raise UserError(
            '--extend cannot repeat a schedule that depends on validations (ReduceOnPlateau)'
        )
    scratch = optimizer_like(wrapper.optimizer)
    cfg = runner.cfg.param_scheduler
    cfg = cfg if isinstance(cfg, (list, tuple)) else [cfg]
    schedulers = runner._build_param_scheduler(cfg, scratch)
    scratch._global_step = 1  # else each asks for optimizer.step() first
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    length = len(runner.train_dataloader) if by_epoch else 0
    for step in range(1, runner.iter + 1):
        for scheduler in schedulers:
            if not scheduler.by_epoch or length and step % length == 0:
                scheduler.step()
    for old, new in zip(resumed, schedulers, strict=True):
        old.load_state_dict(new.state_dict())
    for old, new in zip(wrapper.optimizer.param_groups, scratch.param_groups):
        old.update((key, value) for key, value in new.items() if key != 'params')


def optimizer_like(optimizer) -> torch.optim.Optimizer:
    """One with the same groups, as they were at the beginning, and no weights."""
    groups = []
    for group in optimizer.param_groups:
        begun = [key for key in group if key.startswith('initial_')]
        first = {key.removeprefix('initial_'): group[key] for key in begun}
        groups.append({**group, **first, 'params': [torch.zeros(1)]})
    return torch.optim.SGD(groups, lr=0.0)
