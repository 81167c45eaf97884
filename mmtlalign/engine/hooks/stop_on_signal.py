"""An end to trainings that are asked to end: after the step, and saved."""

import os.path as osp
import random
import signal
from itertools import islice

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, is_distributed
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmtlalign.errors import StoppedBySignal, ending_signals
from mmtlalign.registry import HOOKS

from .resume_random_state import mixing_of
from .whole_checkpoints import INTERRUPTED, name_last

# Iterations between two questions to the other processes.
ASK_EVERY = 10


@HOOKS.register_module()
class StopOnSignal(Hook):
    """Finish the step, save and say so when a signal asks for an end.

    That is Ctrl-C, SIGTERM, with which clusters announce that a job's time is
    up, SIGUSR1, with which they can be told to announce it earlier, and SIGHUP,
    which comes when a terminal goes, but not under nohup. A second Ctrl-C ends the process at once.

    A checkpoint within an epoch, and with it the position in the data and all random states, is
    ``interrupted_epoch_E_iter_N.pth``; resumed, the epoch goes on with the next batch, and with
    ``num_workers=0`` the training ends bit-identical. The next regular checkpoint removes it.
    During a validation the end comes after it. Of several processes, each may get the signal at
    another step: they agree every 10 iterations.

    Raises:
        StoppedBySignal: Naming the checkpoint; its exit status is 128 plus
            the number of the signal.
    """

    # After all others: what they do to a step is part of it.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._signal = 0
        self._handlers: dict = {}
        self._states: list[dict] | None = None
        self._resumed: dict = {}
        self._place: dict = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the position within an epoch until it begins."""
        self._resumed = checkpoint.get('within_epoch', {})

    def before_train(self, runner: Runner) -> None:
        """Take over the signals."""
        self._signal = 0
        self._by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        numbers = [signal.SIGINT, *ending_signals()]
        self._handlers = {number: signal.signal(number, self._note) for number in numbers}

    def after_train(self, runner: Runner) -> None:
        """Give them back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def before_train_epoch(self, runner: Runner) -> None:
        """Go on where a resumed epoch was interrupted."""
        resumed, self._resumed = self._resumed, {}
        loader, done = runner.train_dataloader, resumed.get('batches', 0)
        if not (self._by_epoch and 0 < done < len(loader)):
            return
        set_batches(loader, RestOfBatches(loader.batch_sampler, done))
        if len(resumed['states']) == runner.world_size:
            set_random_states(runner, resumed['states'][runner.rank])
        runner.logger.info(f'Epoch {runner.epoch + 1} goes on after its first {done} batches')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Stop within an epoch, or between iterations."""
        last = self._by_epoch and batch_idx + 1 == len(runner.train_dataloader)
        ask = not (is_distributed() and (runner.iter + 1) % ASK_EVERY)
        if last or not self._is_asked(runner, ask):
            return  # the end of an epoch comes in a moment
        if self._by_epoch:
            self._states = all_gather_object(random_states(runner))
        self._stop(runner, runner.epoch, runner.iter + 1)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what an epoch is to go on with, if it has not ended."""
        meta = checkpoint['meta']
        meta.update(self._place)  # which a FlexibleRunner has overwritten
        if self._states:
            loader = runner.train_dataloader
            length = len(loader) + getattr(loader.batch_sampler, 'skipped', 0)
            batches = meta['iter'] - meta['epoch'] * length
            checkpoint['within_epoch'] = dict(batches=batches, states=self._states)

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop at the end of an epoch."""
        batches = runner.train_dataloader.batch_sampler
        if isinstance(batches, RestOfBatches):
            set_batches(runner.train_dataloader, batches.batches)
        if self._is_asked(runner):
            self._stop(runner, runner.epoch + 1, runner.iter)

    def after_val(self, runner: Runner) -> None:
        """Stop after a validation within a training."""
        if self._handlers and self._is_asked(runner):
            self._stop(runner, runner.epoch, runner.iter)

    def _note(self, number: int, frame) -> None:
        """A signal has come."""
        if self._signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def _is_asked(self, runner: Runner, ask: bool = True) -> bool:
        """Whether to stop, all processes or none."""
        if ask and is_distributed():
            asked = torch.tensor(int(self._signal))
            all_reduce(asked, 'max')
            self._signal = int(asked)
        return bool(ask and self._signal)

    def _stop(self, runner: Runner, epoch: int, step: int) -> None:
        """Save, unless that has just been done, and end."""
        names = () if self._states else (f'epoch_{epoch}.pth', f'iter_{step}.pth')
        saved = (str(hook.last_ckpt) for hook in runner.hooks if isinstance(hook, CheckpointHook))
        path = next((path for path in saved if osp.basename(path) in names), None)
        if path is None:
            name = INTERRUPTED.format(epoch, step)
            self._place = dict(epoch=epoch, iter=step)
            runner.save_checkpoint(runner.work_dir, name, meta=dict(self._place))
            path = osp.join(runner.work_dir, name)
            if runner.rank == 0:
                name_last(runner, path)
        self.after_train(runner)
        raise StoppedBySignal(
            self._signal,
            f'stopped by {signal.Signals(self._signal).name} after iteration {step}; all of it is '
            f"in '{path}': the same command with --resume goes on from it",
        )


class RestOfBatches:
    """The batches of a sampler without the first ones, which are ``skipped``."""

    def __init__(self, batches, skipped: int) -> None:
        self.batches, self.skipped = batches, skipped

    def __iter__(self):
        return islice(iter(self.batches), self.skipped, None)

    def __len__(self) -> int:
        return len(self.batches) - self.skipped

    def __getattr__(self, name: str):
        return getattr(self.__dict__['batches'], name)


def set_batches(loader, batches) -> None:
    """Exchange a loader's batch sampler, which it allows nobody to do."""
    object.__setattr__(loader, 'batch_sampler', batches)


def random_states(runner: Runner) -> dict:
    """All that this process will draw from, as plain data."""
    loader = runner.train_dataloader
    _, keys, position, has_gauss, gauss = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=(keys.tolist(), position, has_gauss, gauss),
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        # of a loader's own generator, if it has one
        loader=loader.generator and loader.generator.get_state(),
        mixing=[mixing.generator.get_state() for mixing in mixing_methods(runner)],
    )


def set_random_states(runner: Runner, states: dict) -> None:
    """Put back what :func:`random_states` has found."""
    version, keys, gauss = states['python']
    random.setstate((version, tuple(keys), gauss))
    keys, *rest = states['numpy']
    np.random.set_state(('MT19937', np.array(keys, np.uint32), *rest))
    torch.set_rng_state(states['torch'])
    if len(states['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states['cuda'])
    if states['loader'] is not None:
        runner.train_dataloader.generator.set_state(states['loader'])
    for mixing, state in zip(mixing_methods(runner), states['mixing']):
        mixing.generator.set_state(state)


def mixing_methods(runner: Runner) -> list:
    """Those of ours, which have generators of their own."""
    return [
        method
        for mixing in mixing_of(runner)
        for method in (mixing, *(getattr(mixing, 'augments', None) or ()))
        if hasattr(method, 'generator')
    ]
