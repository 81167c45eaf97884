"""The launch scripts themselves, on two processes of this machine."""

import os
import re

import pytest
import torch

from ..tiny import ROOT, run, write_project
from ..two_processes import free_port

# Every rank writes down its weights before and after, and its mixing draws.
KEEP = """
import torch
from copy import deepcopy
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Keep(Hook):
    def before_train(self, runner):
        self.before = deepcopy(runner.model.module.state_dict())

    def after_train(self, runner):
        model = runner.model.module
        mixing = model.data_preprocessor.batch_augments.generator
        torch.save(
            dict(before=self.before, after=model.state_dict(),
                 mixing=mixing.get_state()), f'rank{runner.rank}.pth')
"""
KILL_ONCE = """
import os, signal
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class KillOnce(Hook):
    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 3 and runner.rank == 1 and not Path('killed').exists():
            Path('killed').touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""
WITH_KEEP = """
custom_imports = dict(imports=['keep'])
custom_hooks.append(dict(type='mmengine.Keep'))
train_cfg.update(max_epochs=1)
"""


def test_two_processes_train_and_test_one_model(tmp_path):
    """From another folder, with blanks in the paths."""
    folder = tmp_path / 'a folder'
    folder.mkdir()
    (folder / 'keep.py').write_text(KEEP)
    write_project(folder, WITH_KEEP)
    trained = run(
        [ROOT / 'tools/dist_train.sh', 'tiny.py', 2, '--work-dir', 'the work'],
        folder,
        PORT=free_port(),
        CUDA_VISIBLE_DEVICES='',
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert 'Epoch(train) [1][2/2]' in trained.stdout  # 12 images, 2 x 4 each
    first, second = (torch.load(folder / f'rank{i}.pth') for i in range(2))
    # Their images differ, so weights agree only if gradients are averaged.
    for key, before in first['before'].items():
        assert torch.equal(before, second['before'][key]), key
        assert torch.equal(first['after'][key], second['after'][key]), key
        assert not torch.equal(before, first['after'][key]), key
    assert not torch.equal(first['mixing'], second['mixing'])

    arguments = ['tiny.py', 'the work/epoch_1.pth', 2, '--work-dir', 'the work']
    tested = run(
        [ROOT / 'tools/dist_test.sh', *arguments], folder, PORT=free_port(), CUDA_VISIBLE_DEVICES=''
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    accuracy = [
        re.findall(r'accuracy/top1: ([\d.]+)', process.stdout) for process in (trained, tested)
    ]
    assert len(accuracy[0]) == 1 and accuracy[0] == accuracy[1]


@pytest.mark.slow
def test_processes_that_died_are_started_again(tmp_path):
    (tmp_path / 'kill.py').write_text(KILL_ONCE)
    write_project(
        tmp_path,
        """
custom_imports = dict(imports=['kill'])
custom_hooks.append(dict(type='mmengine.KillOnce'))
""",
    )
    done = run(
        [ROOT / 'tools/dist_train.sh', 'tiny.py', 2, '--resume'],
        tmp_path,
        PORT=free_port(),
        MAX_RESTARTS='1',
        CUDA_VISIBLE_DEVICES='',
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'killed').exists()
    assert 'resumed epoch: 1, iter: 2' in done.stdout
    assert (tmp_path / 'work_dirs/tiny/epoch_3.pth').is_file()


@pytest.mark.parametrize(
    'command, line',
    [
        (['dist_train.sh', 'gone.py', 2], "config 'gone.py' does not exist"),
        (['dist_test.sh', 'gone.py', 'a.pth', 2], "config 'gone.py' does not"),
        (['dist_test.sh', 'tiny.py', 'a.pth', 2], "checkpoint 'a.pth' does not"),
        (['dist_train.sh', 'tiny.py'], 'usage: '),
        (['dist_test.sh', 'tiny.py', 'a.pth'], 'usage: '),
        (['slurm_train.sh', 'partition', 'name', 'tiny.py'], 'usage: '),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path, command, line):
    write_project(tmp_path)
    script, *arguments = command
    process = run([ROOT / 'tools' / script, *arguments], tmp_path)
    assert process.returncode != 0
    assert line in process.stderr
    assert process.stderr.count('\n') == 1


@pytest.mark.parametrize(
    'script, variable',
    [
        ('slurm_train.sh', 'GPUS'),
        ('slurm_train.sh', 'GPUS_PER_NODE'),
        ('slurm_train.sh', 'CPUS_PER_TASK'),
        ('dist_train.sh', 'NNODES'),
        ('dist_train.sh', 'NODE_RANK'),
        ('dist_train.sh', 'PORT'),
    ],
)
@pytest.mark.parametrize('value', ['a[$(touch planted)]', '-1', '2.5', '08'])
def test_a_number_is_a_number_and_nothing_runs(tmp_path, script, variable, value):
    write_project(tmp_path)
    arguments = ['gpu', 'job', 'tiny.py', 'work'] if 'slurm' in script else ['tiny.py', '2']
    process = run([ROOT / 'tools' / script, *arguments], tmp_path, **{variable: value})
    assert process.returncode == 2
    assert f'{variable}=' in process.stderr
    assert process.stderr.count('\n') == 1
    assert not (tmp_path / 'planted').exists()


def test_slurm_gets_every_argument_unbroken(tmp_path):
    """A stand-in for srun that prints its arguments, one a line."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    arguments = ['gpu', 'my job', 'a config.py', 'the work', '--cfg-options', 'a=b c']
    process = run(
        [ROOT / 'tools/slurm_train.sh', *arguments],
        tmp_path,
        PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
        GPUS='4',
        SRUN_ARGS='--time=1:00:00 --mem=9G',
        PYTHON='py',
    )
    assert process.returncode == 0, process.stderr
    assert (
        process.stdout
        == f"""--partition=gpu
--job-name=my job
--ntasks=4
--ntasks-per-node=4
--gres=gpu:4
--cpus-per-task=5
--kill-on-bad-exit=1
--time=1:00:00
--mem=9G
py
-u
{ROOT / 'tools/train.py'}
a config.py
--work-dir
the work
--launcher
slurm
--cfg-options
a=b c
"""
    )
