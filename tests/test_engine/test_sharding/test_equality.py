"""Sharded over two processes, a training is what it is with DDP."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from projects.reliability.tasks import DETECTOR, SEGMENTER, write_scenes
from tests.conftest import needs_operators
from tests.test_commands.test_train_and_test import load, same
from tests.tiny import write_project
from tests.two_processes import free_port, run_twice

pytestmark = pytest.mark.slow
IN_TURN = Path(__file__).with_name('in_turn.py')

# Averages, clipping and 8 steps. AdamW divides by the size of gradients, and
# some are zero but for rounding: eps keeps those from being steps.
WHOLE = """
train_cfg.update(max_epochs=4, val_interval=2)
optim_wrapper.update(clip_grad=dict(max_norm=.5))
optim_wrapper['optimizer'].update(eps=1e-4)
custom_hooks.append(dict(type='EMAHook', momentum=.1))
default_hooks.update(checkpoint=dict(type='CheckpointHook', interval=2))
"""
# SIGTERM within an epoch, of one process; they agree at the tenth step.
STOPPED = """
train_cfg.update(max_epochs=2)
train_dataloader.update(batch_size=1)
model['backbone'].update(init_cfg=dict(
    type='Pretrained', checkpoint='fsdp/epoch_4.pth', prefix='backbone.'))
custom_imports = dict(imports=['sender'])
custom_hooks.append(dict(type='mmengine.Sender'))
"""
SENDER = """
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
@HOOKS.register_module()
class Sender(Hook):
    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 8 and runner.rank == 0 and not runner._resume:
            os.kill(os.getpid(), 15)
"""
# How each kind resumes the other: the folder, what began it, options of what goes on.
RESUMED = {
    'both-fsdp': ('fsdp', ['--fsdp']),
    'ddp-then-fsdp': ('ddp', ['--fsdp']),
    'fsdp-then-ddp': ('fsdp', []),
}


def train(folder, *trainings):
    jobs = [(free_port(), training.split()) for training in trainings]
    done = run_twice(folder, IN_TURN, json.dumps(jobs))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def logged(work_dir):
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def assert_equal_logs(folder, names, steps):
    plain, sharded = logged(folder / 'ddp'), logged(folder / 'fsdp')
    assert len(plain) == len(sharded)
    for name in names:
        values = [[row[name] for row in rows if name in row] for rows in (plain, sharded)]
        assert len(values[0]) == steps
        assert values[1] == pytest.approx(values[0], rel=0, abs=1e-6), name


# Of weights, or of what an optimizer holds.
assert_close = partial(torch.testing.assert_close, rtol=0, atol=1e-6)


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """A folder with the same training done in both ways, and what was said."""
    folder = tmp_path_factory.mktemp('both')
    write_project(folder, WHOLE)
    out = train(folder, 'tiny.py --work-dir ddp --no-report', 'tiny.py --work-dir fsdp --fsdp')
    return folder, out


@pytest.fixture(scope='module')
def later(both):
    """What was said by trainings that go on from there, in the same folder."""
    folder, _ = both
    begin = (folder / 'tiny.py').read_text()
    (folder / 'stopped.py').write_text(begin + STOPPED)
    (folder / 'sender.py').write_text(SENDER)
    for name, (begun, _) in RESUMED.items():
        (folder / name).mkdir()
        shutil.copy(folder / begun / 'epoch_2.pth', folder / name)
        (folder / name / 'last_checkpoint').write_text('epoch_2.pth')
    options = {name: ' '.join(options) for name, (_, options) in RESUMED.items()}
    stopped = 'stopped.py --work-dir stopped --no-report --fsdp --amp'
    return train(
        folder,
        *(f'tiny.py --work-dir {name} --no-report --resume {options[name]}' for name in RESUMED),
        stopped,
        f'{stopped} --resume',
    )


def test_classification(both):
    folder, out = both
    assert 'Sharded over 2 processes: 2 transformer layers' in out and 'report: ' in out
    assert 'Epoch(train)' in out and 'Config:' not in out and 'System environment' not in out
    assert_equal_logs(folder, ('loss', 'aligned_share', 'token_fluctuation', 'grad_norm'), 8)
    plain, sharded = (load(folder / name / 'epoch_4.pth') for name in ('ddp', 'fsdp'))
    for part in ('state_dict', 'ema_state_dict'):
        assert_close(plain[part], sharded[part])
    assert_close(plain['optimizer']['state'], sharded['optimizer']['state'])
    assert plain['meta'].keys() == sharded['meta'].keys()
    # clipped, or the comparison says nothing of it
    assert max(row['grad_norm'] for row in logged(folder / 'fsdp') if 'grad_norm' in row) > 0.5


def test_each_kind_resumes_the_other(both, later):
    folder, _ = both
    assert later.count('resumed epoch: 2, iter: 4') == len(RESUMED)
    straight = load(folder / 'fsdp/epoch_4.pth')
    for name in RESUMED:
        resumed = load(folder / name / 'epoch_4.pth')
        for part in ('state_dict', 'ema_state_dict'):
            assert_close(straight[part], resumed[part])
            if name == 'both-fsdp':
                assert same(straight[part], resumed[part])
        assert_close(straight['optimizer']['state'], resumed['optimizer']['state'])


def test_weights_are_proven_in_mixed_precision_and_a_signal_is_heeded(both, later):
    """From pretrained weights; SIGTERM within an epoch, and on from there."""
    folder, _ = both
    assert 'Weights of backbone: verified, ' in later
    assert 'stopped by SIGTERM after iteration 10' in later
    assert 'Epoch 2 goes on after its first 4 batches' in later
    # removed by the next regular one
    assert not list((folder / 'stopped').glob('interrupted_*'))
    assert load(folder / 'stopped/epoch_2.pth')['meta']['iter'] == 12


VIT = """
model['backbone'] = dict(
    type='mmpretrain.VisionTransformer', out_type='featmap', img_size=32,
    patch_size=8, arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=32))
"""
DENSE = """
train_cfg.update(max_iters=4, val_interval=4)
optim_wrapper.update(clip_grad=dict(max_norm=1.))
default_hooks['checkpoint'].update(interval=4)
"""


def test_dense_tasks(tmp_path):
    needs_operators()
    names = dict(detector=('loss', 'loss_rpn_cls', 'grad_norm'), segmenter=('loss', 'grad_norm'))
    write_scenes(tmp_path)
    (tmp_path / 'detector.py').write_text(DETECTOR + DENSE)
    (tmp_path / 'segmenter.py').write_text(SEGMENTER + VIT + DENSE)
    train(
        tmp_path,
        *(
            f'{task}.py --no-report --work-dir {task}/{kind}'
            for task in names
            for kind in ('ddp', 'fsdp --fsdp')
        ),
    )
    for task, values in names.items():
        assert_equal_logs(tmp_path / task, values, 4)
        plain, sharded = (load(tmp_path / task / name / 'iter_4.pth') for name in ('ddp', 'fsdp'))
        assert_close(plain['state_dict'], sharded['state_dict'])
