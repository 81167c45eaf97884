"""An end to trainings that have diverged, before they destroy anything."""

from collections.abc import Iterator, Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor
from torch.nn.utils import get_total_norm

from mmtlalign.errors import UserError
from mmtlalign.registry import HOOKS

from ..sharding.tensors import is_finite, own_part

MAX_SKIPPED = 20  # steps running, in float16
SAVED = ('state_dict', 'ema_state_dict', 'optimizer')


@HOOKS.register_module()
class StopOnDivergence(Hook):
    """Stop a training whose loss, gradients or weights are not finite.

    mmengine goes on with NaN, and its checkpoints of NaN take the place of sound ones. Here a flag,
    on the device, gathers whether all losses and gradients are finite; it is read, which waits for
    the device, as often as the log is written and before anything is validated or saved. Weights,
    their averages and the optimizer's state are looked at before they are saved. ``tools/train.py``
    registers this hook for every training.

    With loss scaling (float16), a step whose gradients overflow is skipped,
    which is no divergence yet. The log counts such steps as
    ``skipped_steps``; 20 in a row, or a scale below 1, end the training.

    Raises:
        UserError: Saying what is not finite, the last sound checkpoint and how to go on.
    """

    # After the averaging of weights, before the log and what saves.
    priority = 55

    def __init__(self) -> None:
        self._watches: list[StepWatch] = []
        self._sound_loss: Tensor | bool = True
        self._saved = False

    def before_train(self, runner: Runner) -> None:
        """Begin to watch the steps of all optimizers."""
        self.after_train(runner)
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        of_torch = (one for one in wrappers if isinstance(one.optimizer, torch.optim.Optimizer))
        self._watches = [StepWatch(one) for one in of_torch]
        self._sound_loss, self._saved = True, runner.iter > 0
        self._interval = min(
            (hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), default=10
        )

    def after_train(self, runner: Runner) -> None:
        """Watch no longer."""
        for watch in self._watches:
            watch.handle.remove()
        self._watches = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Gather what a step was like; judge it if it is logged or saved."""
        for watch in self._watches:
            watch.count()
        loss = (outputs or {}).get('loss')
        if isinstance(loss, Tensor):
            self._sound_loss = self._sound_loss & loss.detach().isfinite().all()
        due = self._is_due(runner, by_epoch=False)
        if due or self.every_n_inner_iters(batch_idx, self._interval):
            self._check_steps(runner)
        if due:
            self._check_weights(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Judge the epoch before it is saved."""
        self._check_steps(runner)
        if self._is_due(runner, by_epoch=True):
            self._check_weights(runner)

    def before_val(self, runner: Runner) -> None:
        """Judge what may be saved as the best."""
        if self._watches:  # else it is no part of a training
            self._check_steps(runner)
            self._check_weights(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let nothing pass that is not finite, whoever saves it."""
        found = first_unsound(named_tensors({part: checkpoint.get(part) for part in SAVED}))
        if found:
            raise self._error(runner, f'{found} is not finite')

    def _is_due(self, runner: Runner, by_epoch: bool) -> bool:
        """Whether a checkpoint will be saved now."""
        every, is_last = self.every_n_train_iters, self.is_last_train_iter
        if by_epoch:
            every, is_last = self.every_n_epochs, self.is_last_train_epoch
        return any(
            every(runner, hook.interval, hook.save_begin) or hook.save_last and is_last(runner)
            for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and hook.by_epoch == by_epoch
        )

    def _check_steps(self, runner: Runner) -> None:
        """Judge all steps so far."""
        if scaled := [watch for watch in self._watches if watch.scaler]:
            skipped = sum(int(watch.skipped) for watch in scaled)
            runner.message_hub.update_scalar('train/skipped_steps', skipped)
        reasons = [watch.reason() for watch in self._watches]
        # with loss scaling, the loss of a step to skip may be anything
        if not scaled and not self._sound_loss:
            reasons.insert(0, 'a loss is not finite')
        self._stop_if(runner, next(filter(None, reasons), None))

    def _check_weights(self, runner: Runner) -> None:
        """Judge weights, their averages and the optimizers' states."""
        models = [(runner.model, 'weights')] + [
            (hook.ema_model, f'averaged weights of {type(hook).__name__}')
            for hook in runner.hooks
            if hasattr(hook, 'ema_model')
        ]
        tensors = [
            (f'{name} ({what})', value)
            for model, what in models
            for name, value in named_tensors(model.state_dict())
        ]
        for watch in self._watches:
            tensors += named_tensors(list(watch.optimizer.state.values()), 'optimizer.')
        found = first_unsound(tensors)
        self._stop_if(runner, found and f'{found} is not finite')
        self._saved = True

    def _stop_if(self, runner: Runner, reason: str | None) -> None:
        """End all processes if one has a reason to."""
        stop = torch.tensor(int(reason is not None))
        all_reduce(stop, 'max')
        if stop:
            raise self._error(runner, reason or 'see the other processes')

    def _error(self, runner: Runner, reason: str) -> UserError:
        """What has happened, what is left and what to do."""
        rates = [group['lr'] for watch in self._watches for group in watch.optimizer.param_groups]
        anew = (
            f'begin anew with a lower learning rate (it is {max(rates, default=0):.3g} now; '
            '--cfg-options optim_wrapper.optimizer.lr=RATE)'
        )
        clip = '--cfg-options optim_wrapper.clip_grad.max_norm=1'
        remedy = f'There is no earlier checkpoint: {anew}, or clip gradients ({clip})'
        if last := self._saved and (
            find_latest_checkpoint(runner.work_dir) or runner.cfg.get('load_from')
        ):
            remedy = (
                f"The last sound checkpoint is '{last}': go on from it with "
                f'gradients clipped (--resume {last} {clip}), or {anew}'
            )
        return UserError(
            f'training has diverged: {reason}, by iteration {runner.iter + 1} '
            f'(epoch {runner.epoch + 1}); nothing of that was saved. {remedy}'
        )


class StepWatch:
    """What the steps of a wrapper's optimizer were like."""

    def __init__(self, wrapper: OptimWrapper) -> None:
        self.wrapper, self.optimizer = wrapper, wrapper.optimizer
        scaler = getattr(wrapper, 'loss_scaler', None)
        self.scaler = scaler if scaler and scaler.is_enabled() else None
        self.sound: Tensor | bool = True
        self.skipped = self.running = self.longest = torch.zeros(())
        self._seen, self._skips = wrapper._inner_count, 1.0
        self.handle = self.optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer, args, kwargs) -> None:
        if self.scaler:
            # Only steps to take come here, but for fused optimizers, which
            # are told on the device whether to skip.
            self._skips = getattr(optimizer, 'found_inf', 0.0)
            return
        weights = [weight for group in optimizer.param_groups for weight in group['params']]
        gradients = [own_part(weight.grad) for weight in weights if weight.grad is not None]
        if gradients := [gradient for gradient in gradients if gradient.numel()]:
            self.sound = self.sound & get_total_norm(gradients, torch.inf).isfinite()

    def count(self) -> None:
        """After a training iteration, tell skipped steps from taken ones."""
        seen, self._seen = self._seen, self.wrapper._inner_count
        if self.scaler and self._seen != seen and self.wrapper.should_update():
            self.skipped = self.skipped + self._skips
            self.running = (self.running + 1) * self._skips
            self.longest = torch.maximum(self.longest, self.running)
            self._skips = 1.0

    def reason(self) -> str | None:
        """Why to stop, if there is a reason."""
        if not self.sound:
            return 'a gradient is not finite'
        if self.longest >= MAX_SKIPPED:
            return f'{int(self.longest)} steps in a row were skipped, as their gradients overflowed'
        if self.scaler and self.scaler.get_scale() < 1:
            return f'gradients overflow even with a loss scale of {self.scaler.get_scale():.3g}'
        return None


def named_tensors(value, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """All tensors in nested dicts and lists, by path."""
    if isinstance(value, Tensor):
        yield name.rstrip('.'), value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from named_tensors(child, f'{name}{key}.')
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for i, child in enumerate(value):
            yield from named_tensors(child, f'{name}{i}.')


def first_unsound(tensors) -> str | None:
    """Name of the first tensor that holds NaN or infinity, if one does."""
    return next((name for name, value in tensors if not is_finite(value)), None)
