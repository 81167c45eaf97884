"""A training that is tried out, and left again."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtlalign.registry import HOOKS

from .peak_memory import peak_of_process


class DryRunEnded(Exception):
    """All that was to be tried has worked; says what it needed."""


@HOOKS.register_module()
class DryRun(Hook):
    """End a training after its second step, and say what all will need.

    The first step warms up (it chooses kernels, compiles, allocates); the second is timed, from
    batch to batch. ``--dry-run`` of ``tools/train.py`` adds this hook.

    Raises:
        DryRunEnded: With peak memory of this process and expected hours, validation not counted.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Note how much is to be done."""
        self._left = runner.max_iters - runner.iter
        self._end = runner.iter + min(2, self._left)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """End."""
        if runner.iter + 1 == self._end:
            seconds = runner.message_hub.get_scalar('train/time').current()
            on_gpu = torch.cuda.is_available()
            peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_of_process()
            raise DryRunEnded(
                f'dry run: peak memory {peak:.0f} MiB a process; {seconds:.3f} s a step, '
                f'so {self._left} steps take {self._left * seconds / 3600:.2f} h without validation'
            )
