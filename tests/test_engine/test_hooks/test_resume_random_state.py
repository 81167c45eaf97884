"""Trainings that are broken off and resumed, in a real runner."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.checkpoint import get_torch_safe_globals
from mmpretrain.models import RandomBatchAugment
from mmpretrain.models.utils.batch_augments import Mixup as HostMixup

from mmtlalign.engine.hooks import resume_random_state
from mmtlalign.engine.hooks.resume_random_state import ResumeRandomState, seed_mixing
from mmtlalign.engine.hooks.stop_on_signal import mixing_methods, random_states, set_random_states
from mmtlalign.models import CutMix, Mixup, RandomMix
from tests.test_commands.test_train_and_test import same
from tests.tiny import write_project

BY_EPOCH = 'train_cfg.update(max_epochs=2)\n'
BY_ITERATION = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=7, val_interval=2)
param_scheduler.update(T_max=7, by_epoch=False)
default_hooks.update(
    checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False))
train_dataloader['sampler'] = dict(type='InfiniteSampler')
"""
WITH_WORKERS = BY_EPOCH + 'train_dataloader.update(num_workers=2)\n'


class Break(Exception):
    """Ends a training from inside."""


class BreakAt(Hook):
    """Break in an iteration; draw from every generator in validation."""

    def __init__(self, iteration=None):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise Break

    def after_val_epoch(self, runner, metrics=None):
        draw()


def draw():
    """A number from each global generator."""
    return random.random(), np.random.rand(), torch.rand(()).item()


def build_runner(folder, change='', break_at=None, resume=False):
    """A runner on the tiny config, which validates with random draws."""
    cfg = Config.fromfile(write_project(folder, change))
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = str(folder / 'images')
    cfg.work_dir = str(folder / 'work')
    cfg.resume = resume
    cfg.experiment_name = f'{folder.name}{break_at}{resume}'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(BreakAt(break_at))
    return runner


def end_of(runner):
    """Train, and return all that the training is about."""
    runner.train()
    return dict(
        weights=runner.model.state_dict(), optimizer=runner.optim_wrapper.state_dict()['state']
    )


@pytest.mark.slow
@pytest.mark.parametrize('change', [WITH_WORKERS, BY_ITERATION], ids=['workers', 'iterations'])
def test_resumed_training_ends_bit_identical(tmp_path, monkeypatch, change):
    """Also of a seed drawn at start: the data's order follows that of the first run, not of this
    one; what is stored of it needs no trust."""
    change += 'randomness = dict(seed=None)'
    monkeypatch.setattr('mmengine.runner.utils.sync_random_seed', lambda: 5)
    straight = end_of(build_runner(tmp_path / 'whole', change))
    with pytest.raises(Break):
        build_runner(tmp_path / 'broken', change, break_at=5).train()
    for path in (tmp_path / 'broken').glob('work/*.pth'):
        with torch.serialization.safe_globals(get_torch_safe_globals()):
            stored = torch.load(path, weights_only=True)['resume_random_state']
        assert stored == dict(sampler_seed=5, threads=torch.get_num_threads())
    monkeypatch.setattr('mmengine.runner.utils.sync_random_seed', lambda: 6)
    resumed = build_runner(tmp_path / 'broken', change, resume=True)
    assert resumed.seed == 6
    assert same(straight, end_of(resumed))


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """A runner that is ready to train, with workers."""
    runner = build_runner(tmp_path_factory.mktemp('built'), WITH_WORKERS)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    return runner


def states_after(hook, runner, step):
    """Draws of every generator the hook sets, at a step."""
    hook._reseed(runner, step)
    augments = runner.model.data_preprocessor.batch_augments
    loader = runner.train_dataloader
    return *draw(), *(
        torch.rand((), generator=generator).item()
        for generator in (augments.generator, loader.generator)
    )


def test_states_depend_on_seed_step_and_rank_alone(built, monkeypatch):
    hook = ResumeRandomState()
    hook.before_train(built)
    states = {}
    for seed, step, rank in [(3, 0, 0), (3, 1, 0), (3, 0, 1), (0, 3, 0)]:
        monkeypatch.setattr(built, '_seed', seed)
        monkeypatch.setattr(built, '_rank', rank)
        states[seed, step, rank] = states_after(hook, built, step)
        draw()
        assert states[seed, step, rank] == states_after(hook, built, step)
    numbers = [number for state in states.values() for number in state]
    assert len(set(numbers)) == len(numbers) == 20


def test_workers_draw_anew_each_epoch(built):
    """mmengine's own seeding gives every epoch the same draws."""
    hook = ResumeRandomState()
    hook.before_train(built)
    drawn = []
    for epoch in range(2):
        hook._reseed(built, epoch)
        drawn.extend(draw())  # the main process
        for worker in range(2):
            built.train_dataloader.worker_init_fn(worker)
            drawn.extend(draw())
    assert len(set(drawn)) == len(drawn) == 18


@pytest.fixture
def said(monkeypatch):
    """What the hook logs."""
    lines = []
    monkeypatch.setattr(resume_random_state, 'print_log', lambda line, **kwargs: lines.append(line))
    return lines


@pytest.mark.parametrize(
    'loop, workers, persistent, says',
    [
        (EpochBasedTrainLoop, 2, True, True),
        (IterBasedTrainLoop, 2, False, True),
        (EpochBasedTrainLoop, 2, False, False),
        (IterBasedTrainLoop, 0, False, False),
    ],
)
def test_lasting_workers_are_reported(said, loop, workers, persistent, says):
    loader = SimpleNamespace(
        num_workers=workers, persistent_workers=persistent, worker_init_fn=None
    )
    runner = SimpleNamespace(train_loop=object.__new__(loop), train_dataloader=loader, iter=0)
    ResumeRandomState().before_train(runner)
    assert ['outlive a checkpoint' in line for line in said] == [True] * says


@pytest.mark.parametrize('more', [0, 1])
def test_another_number_of_threads_is_reported(built, monkeypatch, said, more):
    monkeypatch.setattr(built.train_loop, '_iter', 3)
    now = torch.get_num_threads()
    hook = ResumeRandomState()
    hook.after_load_checkpoint(built, dict(resume_random_state=dict(threads=now + more)))
    hook.before_train(built)
    report = f'Resuming with {now} threads a training started with {now + 1}'
    assert [report in line for line in said] == [True] * more


@pytest.mark.parametrize('iteration, seed', [(3, 7), (0, 3)])
def test_order_is_taken_over_by_resuming_not_by_loading(built, monkeypatch, iteration, seed):
    monkeypatch.setattr(built.train_loop, '_iter', iteration)
    monkeypatch.setattr(built.train_dataloader.sampler, 'seed', 3)
    hook = ResumeRandomState()
    hook.after_load_checkpoint(built, dict(resume_random_state=dict(sampler_seed=7)))
    hook.before_train(built)
    assert built.train_dataloader.sampler.seed == seed


def test_mixing_of_ours_is_seeded_inside_the_hosts_choice():
    images = torch.zeros(4, 3, 32, 32)

    def draws(mixing, seed):
        seed_mixing(mixing, seed)
        return [method.draw(images).lam[0].item() for method in mixing.augments]

    for kind in RandomBatchAugment, RandomMix:
        mixing = kind([CutMix(1.0), Mixup(1.0), Mixup(1.0)])
        first = draws(mixing, 3)
        assert first == draws(mixing, 3) != draws(mixing, 4)
        assert len(set(first)) == 3
    seed_mixing(None, 3)
    seed_mixing(RandomBatchAugment([HostMixup(0.8)]), 3)  # draws by numpy


@pytest.mark.parametrize('name', ['batch_augments', 'mixing'])
def test_states_within_an_epoch_hold_those_of_all_mixing(name):
    """Of classifiers' and of segmentors' data preprocessors."""
    mixing = RandomMix([dict(type='Mixup', alpha=1.0)])
    runner = SimpleNamespace(
        model=SimpleNamespace(data_preprocessor=SimpleNamespace(**{name: mixing})),
        train_dataloader=SimpleNamespace(generator=None),
    )
    mixing.seed(3)
    states, generators = random_states(runner), mixing_methods(runner)
    assert mixing in generators
    drawn = [torch.rand(3, generator=g.generator) for g in generators]
    set_random_states(runner, states)
    for generator, before in zip(generators, drawn):
        after = torch.rand(3, generator=generator.generator)
        assert torch.equal(after, before)
