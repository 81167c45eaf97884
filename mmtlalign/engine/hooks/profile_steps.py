"""Where the time of a training step goes."""

import os.path as osp

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtlalign.errors import UserError
from mmtlalign.output_files import written_beside
from mmtlalign.registry import HOOKS


@HOOKS.register_module()
class ProfileSteps(Hook):
    """Trace the first steps with torch's profiler.

    Unlike mmengine's ``ProfilerHook``, it also counts from where a training is resumed, passes over
    the ends of epochs, and leaves a whole file: ``trace_rankN.json`` beside the log, for Perfetto
    or chrome://tracing. ``--profile N`` of ``tools/train.py`` adds this hook.

    Args:
        steps (int): How many.

    Raises:
        UserError: If fewer are left.
    """

    priority = 'LOWEST'

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._profiler: torch.profiler.profile | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin."""
        left = runner.max_iters - runner.iter
        if self.steps > left:
            raise UserError(f'--profile {self.steps}: this training has {left} steps left')
        self._begin = runner.iter
        # else torch looks for a GPU, and complains that there is none
        cpu_only = None if torch.cuda.is_available() else [torch.profiler.ProfilerActivity.CPU]
        self._profiler = torch.profiler.profile(activities=cpu_only, acc_events=True)
        self._profiler.start()
        self._mark(0)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Count; write after the last."""
        if self._profiler is None:
            return
        self._step.__exit__(None, None, None)
        done = runner.iter + 1 - self._begin
        if done < self.steps:
            self._mark(done)
        else:
            self._profiler.stop()
            path = osp.join(runner.log_dir, f'trace_rank{runner.rank}.json')
            with written_beside(path) as beside:
                self._profiler.export_chrome_trace(str(beside))
            runner.logger.info(f'Trace of {self.steps} steps: {path}')
            self._profiler = None

    def _mark(self, step: int) -> None:
        """Begin a step under torch's name of it, which only a schedule would give."""
        self._step = torch.profiler.record_function(f'ProfilerStep#{step}')
        self._step.__enter__()
