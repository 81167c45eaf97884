"""Random states that a resumed training finds again."""

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmtlalign.registry import HOOKS


@HOOKS.register_module()
class ResumeRandomState(Hook):
    """Let a training that was killed and resumed end like one that was not.

    mmengine stores no random state in a checkpoint. Here none needs storing, because each is a
    function of what is stored anyway: at every point where training can be resumed, all of them are
    set from (seed, step, rank), the step being the epoch in epoch-based loops and the iteration in
    iteration-based ones. That covers Python, numpy, torch on all devices and the draws of the
    ``batch_augments`` or ``mixing`` of ``model.data_preprocessor``, whatever a validation in
    between has drawn; and ranks differ without ``diff_rank_seed``. Data-loading workers are set
    from (seed, epoch, rank, worker) as they start.

    On the CPU with ``num_workers=0`` and an unchanged number of threads the weights then end
    bit-identical. Workers that outlive an epoch (``persistent_workers=True``, or any worker of an
    iteration-based loop) cannot be reached: order and weights resume, augmentation draws do not,
    and the log says so.

    The hook has the lowest priority, so that no other hook draws after it.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._resumed: dict = {}
        self._host_worker_init: Callable | None = None
        self._by_epoch = True

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the order of the data, which may have been drawn at start."""
        checkpoint['resume_random_state'] = dict(
            sampler_seed=getattr(_sampler(runner), 'seed', None), threads=torch.get_num_threads()
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the note until it is known whether training resumes."""
        self._resumed = checkpoint.get('resume_random_state', {})

    def before_train(self, runner: Runner) -> None:
        """Take over the train dataloader's randomness; restore its order."""
        self._by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        loader = runner.train_dataloader
        # An iterator seeds its workers with a draw, one more in a resumed
        # run: not from the global state, then.
        loader.generator = torch.Generator()
        self._host_worker_init = loader.worker_init_fn
        if loader.num_workers and (loader.persistent_workers or not self._by_epoch):
            print_log(
                f'The {loader.num_workers} workers of train_dataloader outlive a checkpoint: if '
                'this training is resumed, their augmentation draws will not be those of an '
                'uninterrupted one (num_workers=0 avoids it)',
                logger='current',
            )
        if runner.iter == 0:  # weights alone were loaded, if anything
            return
        if self._resumed.get('sampler_seed') is not None:
            _sampler(runner).seed = self._resumed['sampler_seed']
        now = torch.get_num_threads()
        before = self._resumed.get('threads', now)
        if now != before:
            print_log(
                f'Resuming with {now} threads a training started with '
                f'{before}: sums are split differently, so weights may differ '
                f'in their last bits (OMP_NUM_THREADS={before} avoids it)',
                logger='current',
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed an epoch, or the first iteration of this process."""
        self._reseed(runner, runner.epoch if self._by_epoch else runner.iter)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Seed the next iteration, its data included."""
        if not self._by_epoch:
            self._reseed(runner, runner.iter + 1)

    def after_val(self, runner: Runner) -> None:
        """Seed the next iteration again, as validation may have drawn."""
        if not self._by_epoch:
            self._reseed(runner, runner.iter)

    def _reseed(self, runner: Runner, step: int) -> None:
        """Set every random state from (seed, step, rank)."""
        key = (runner.seed, step, runner.rank)
        *seeds, loader_seed, mixing_seed = independent_seeds(5, *key)
        seed_everything(*seeds)
        loader = runner.train_dataloader
        loader.generator.manual_seed(loader_seed)
        loader.worker_init_fn = partial(_init_worker, key=key, host_init=self._host_worker_init)
        for mixing in mixing_of(runner):
            seed_mixing(mixing, mixing_seed)


def independent_seeds(count: int, *key: int) -> list[int]:
    """Hash non-negative numbers into seeds in [0, 2**32); unlike with sums, (0, 1) and (1, 0)
    differ."""
    return np.random.SeedSequence(key).generate_state(count).tolist()


def seed_everything(python: int, numpy: int, torch_: int) -> None:
    """Seed the global generators, torch's on all devices."""
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_)


def mixing_of(runner: Runner) -> list:
    """What mixes training batches: ``batch_augments`` of a classifier's data
    preprocessor, ``mixing`` of a segmentor's."""
    model = runner.model
    model = model.module if is_model_wrapper(model) else model
    found = (getattr(model.data_preprocessor, name, None) for name in ('batch_augments', 'mixing'))
    return [mixing for mixing in found if mixing is not None]


def seed_mixing(mixing, seed: int) -> None:
    """Seed a mixing method, or the methods of ours that the host chooses
    from (by numpy's generator)."""
    if hasattr(mixing, 'seed'):
        return mixing.seed(seed)
    for i, augment in enumerate(getattr(mixing, 'augments', []), 1):
        if hasattr(augment, 'seed'):
            augment.seed(*independent_seeds(1, seed, i))


def _init_worker(worker_id: int, key: tuple[int, ...], host_init: Callable | None) -> None:
    """Do what the host does in a new worker, then seed it."""
    if host_init is not None:
        host_init(worker_id)
    # From 1, as a key ending in 0 is hashed like the one without that end.
    seed_everything(*independent_seeds(3, *key, worker_id + 1))


def _sampler(runner: Runner):
    """The sampler that orders the training data, batched or not."""
    loader = runner.train_dataloader
    if loader.batch_size is None:  # the config gives a batch sampler
        return getattr(loader.batch_sampler, 'sampler', None)
    return loader.sampler
