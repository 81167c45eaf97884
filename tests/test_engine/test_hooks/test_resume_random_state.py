"""Trainings that are broken off and resumed, in a real runner."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_torch_safe_globals
from mmpretrain.models import RandomBatchAugment
from mmpretrain.models.utils.batch_augments import Mixup as HostMixup

from mmtlalign.engine.hooks.resume_random_state import (
    ResumeRandomState,
    independent_seeds,
    seed_everything,
    seed_mixing,
)
from mmtlalign.engine.hooks.stop_on_signal import mixing_methods, random_states, set_random_states
from mmtlalign.models import CutMix, Mixup, RandomMix
from tests.tiny import write_project

BY_ITERATION = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=9, val_interval=2)
param_scheduler.update(T_max=9, by_epoch=False)
default_hooks.update(
    checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False))
train_dataloader['sampler'] = dict(type='InfiniteSampler')
"""
WITH_WORKERS = 'train_dataloader.update(num_workers=2)'


@pytest.fixture(autouse=True)
def no_description_of_the_machine(monkeypatch):
    """Its compilers and devices take a second to find."""
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)


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


def build_runner(folder, change='', break_at=None, resume=False, hook=True):
    """A runner on the tiny config, which validates with random draws."""
    cfg = Config.fromfile(write_project(folder, change))
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = str(folder / 'images')
    cfg.work_dir = str(folder / 'work')
    cfg.resume = resume
    cfg.custom_hooks = cfg.custom_hooks if hook else []
    cfg.experiment_name = f'{folder.name}{break_at}{resume}{hook}'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(BreakAt(break_at))
    return runner


def end_of(runner):
    """Train, and return all that the training is about."""
    runner.train()
    return dict(
        weights=runner.model.state_dict(), optimizer=runner.optim_wrapper.state_dict()['state']
    )


def same(a, b):
    """Whether nested dicts of tensors are equal bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return torch.equal(a, b)


def ends(tmp_path, change, hook=True):
    """Ends of an uninterrupted and of a broken-off and resumed training."""
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    straight = end_of(build_runner(whole, change, hook=hook))
    with pytest.raises(Break):
        build_runner(broken, change, break_at=5, hook=hook).train()
    return straight, end_of(build_runner(broken, change, resume=True, hook=hook))


@pytest.mark.parametrize(
    'change', ['', BY_ITERATION, WITH_WORKERS], ids=['epochs', 'iterations', 'workers']
)
def test_resumed_training_ends_bit_identical(tmp_path, change):
    straight, resumed = ends(tmp_path, change)
    assert same(straight['optimizer'], resumed['optimizer'])
    assert same(straight['weights'], resumed['weights'])


def test_a_seed_drawn_at_start_is_resumed_too(tmp_path, monkeypatch):
    """The data's order follows the seed of the first run, not of this one."""
    for now in (5, 6):
        monkeypatch.setattr('mmengine.runner.utils.sync_random_seed', lambda: now)
        if now == 5:
            change = 'randomness = dict(seed=None)'
            straight = end_of(build_runner(tmp_path / 'whole', change))
            with pytest.raises(Break):
                build_runner(tmp_path / 'broken', change, break_at=5).train()
    resumed = build_runner(tmp_path / 'broken', change, resume=True)
    assert resumed.seed == 6
    assert same(straight, end_of(resumed))


def test_without_the_hook_it_does_not(tmp_path):
    straight, resumed = ends(tmp_path, '', hook=False)
    assert not same(straight['weights'], resumed['weights'])


def states_after(hook, runner, step):
    """Draws of every generator the hook sets, at a step."""
    hook._reseed(runner, step)
    augments = runner.model.data_preprocessor.batch_augments
    loader = runner.train_dataloader
    return *draw(), *(
        torch.rand((), generator=generator).item()
        for generator in (augments.generator, loader.generator)
    )


def test_states_depend_on_seed_step_and_rank_alone(tmp_path, monkeypatch):
    runner = build_runner(tmp_path)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    hook = ResumeRandomState()
    hook.before_train(runner)
    states = {}
    for seed, step, rank in [(3, 0, 0), (3, 1, 0), (3, 0, 1), (0, 3, 0)]:
        monkeypatch.setattr(runner, '_seed', seed)
        monkeypatch.setattr(runner, '_rank', rank)
        states[seed, step, rank] = states_after(hook, runner, step)
        draw()
        assert states[seed, step, rank] == states_after(hook, runner, step)
    numbers = [number for state in states.values() for number in state]
    assert len(set(numbers)) == len(numbers) == 20


def test_workers_draw_anew_each_epoch(tmp_path):
    """mmengine's own seeding gives every epoch the same draws."""
    runner = build_runner(tmp_path, 'train_dataloader.update(num_workers=2)')
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    hook = ResumeRandomState()
    hook.before_train(runner)
    drawn = []
    for epoch in range(2):
        hook._reseed(runner, epoch)
        drawn.extend(draw())  # the main process
        for worker in range(2):
            runner.train_dataloader.worker_init_fn(worker)
            drawn.extend(draw())
    assert len(set(drawn)) == len(drawn) == 18


@pytest.mark.parametrize(
    'change, says',
    [
        ('train_dataloader.update(num_workers=2, persistent_workers=True)', True),
        (BY_ITERATION + WITH_WORKERS, True),
        (WITH_WORKERS, False),
        ('', False),
    ],
)
def test_lasting_workers_are_reported(tmp_path, capsys, change, says):
    runner = build_runner(tmp_path, change)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    ResumeRandomState().before_train(runner)
    assert ('outlive a checkpoint' in capsys.readouterr().out) == says


@pytest.mark.parametrize('more', [0, 1])
def test_another_number_of_threads_is_reported(tmp_path, capsys, more):
    runner = build_runner(tmp_path)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.train_loop._iter = 3
    now = torch.get_num_threads()
    hook = ResumeRandomState()
    hook.after_load_checkpoint(runner, dict(resume_random_state=dict(threads=now + more)))
    hook.before_train(runner)
    report = f'Resuming with {now} threads a training started with {now + 1}'
    assert (report in capsys.readouterr().out) == bool(more)


@pytest.mark.parametrize('iteration, seed', [(3, 7), (0, 3)])
def test_order_is_taken_over_by_resuming_not_by_loading(tmp_path, iteration, seed):
    runner = build_runner(tmp_path)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.train_loop._iter = iteration
    hook = ResumeRandomState()
    hook.after_load_checkpoint(runner, dict(resume_random_state=dict(sampler_seed=7)))
    hook.before_train(runner)
    assert runner.train_dataloader.sampler.seed == seed


def test_what_is_stored_needs_no_trust(tmp_path):
    build_runner(tmp_path, 'train_cfg.update(max_epochs=1)').train()
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        checkpoint = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=True)
    assert checkpoint['resume_random_state'] == dict(
        sampler_seed=3, threads=torch.get_num_threads()
    )


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


def test_seeds_are_not_sums():
    assert independent_seeds(2, 0, 1) != independent_seeds(2, 1, 0)
    seed_everything(1, 2, 3)
    first = draw()
    seed_everything(1, 2, 3)
    assert draw() == first
