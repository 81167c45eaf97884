"""The launch scripts themselves, on two processes of this machine."""

import os
import re

import pytest
import torch

from ..test_commands.happens import write_disturbed
from ..tiny import ROOT, run, write_project
from ..two_processes import free_port, run_twice

# At once, as with its machine
KILL_ONCE = """
if os.environ['RANK'] == '1' and not os.path.exists('killed'):
    open('killed', 'w').close()
    os.kill(os.getpid(), 9)
"""
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
WITH_KEEP = """
custom_imports['imports'].append('keep')
custom_hooks.append(dict(type='mmengine.Keep'))
train_cfg.update(max_epochs=2)
"""


@pytest.mark.slow
def test_two_processes_train_one_model_and_are_started_again(tmp_path):
    """From another folder, with blanks in the paths."""
    folder = tmp_path / 'a folder'
    folder.mkdir()
    (folder / 'keep.py').write_text(KEEP)
    write_disturbed(folder, 'iter_3', KILL_ONCE, WITH_KEEP)
    trained = run(
        [ROOT / 'tools/dist_train.sh', 'tiny.py', 2]
        + ['--work-dir', 'the work', '--resume', '--no-report'],
        folder,
        PORT=free_port(),
        MAX_RESTARTS='1',
        CUDA_VISIBLE_DEVICES='',
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert (folder / 'killed').exists()
    assert 'Epoch(train) [1][2/2]' in trained.stdout  # 12 images, 2 x 4 each
    assert 'resumed epoch: 1, iter: 2' in trained.stdout
    first, second = (torch.load(folder / f'rank{i}.pth') for i in range(2))
    # Their images differ, so weights agree only if gradients are averaged.
    for key, before in first['before'].items():
        assert torch.equal(before, second['before'][key]), key
        assert torch.equal(first['after'][key], second['after'][key]), key
        assert not torch.equal(before, first['after'][key]), key
    assert not torch.equal(first['mixing'], second['mixing'])

    tested = run_twice(
        folder, ROOT / 'tools/test.py', 'tiny.py', 'the work/epoch_2.pth', '--launcher', 'pytorch'
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    accuracy = [
        re.findall(r'accuracy/top1: ([\d.]+)', process.stdout)[-1] for process in (trained, tested)
    ]
    assert accuracy[0] == accuracy[1]


SLURM, TRAIN = 'slurm_train.sh gpu job tiny.py work', 'dist_train.sh tiny.py 2'


@pytest.mark.parametrize(
    'command, env, line',
    [
        ('dist_train.sh gone.py 2', {}, "config 'gone.py' does not exist"),
        ('dist_test.sh gone.py a.pth 2', {}, "config 'gone.py' does not"),
        ('dist_test.sh tiny.py a.pth 2', {}, "checkpoint 'a.pth' does not"),
        ('dist_train.sh tiny.py', {}, 'usage: '),
        ('dist_test.sh tiny.py a.pth', {}, 'usage: '),
        ('slurm_train.sh partition name tiny.py', {}, 'usage: '),
        (SLURM, dict(GPUS='a[$(touch planted)]'), 'GPUS='),
        (SLURM, dict(GPUS_PER_NODE='-1'), 'GPUS_PER_NODE='),
        (SLURM, dict(CPUS_PER_TASK='2.5'), 'CPUS_PER_TASK='),
        (TRAIN, dict(NNODES='08'), 'NNODES='),
        (TRAIN, dict(NODE_RANK='a[$(touch planted)]'), 'NODE_RANK='),
        (TRAIN, dict(PORT='a[$(touch planted)]'), 'PORT='),
        (TRAIN, dict(MAX_RESTARTS='-1'), 'MAX_RESTARTS='),
        ('lacvit.sh', {}, 'usage: tools/lacvit.sh CONFIG_OF_STAGE_2'),
        ('lacvit.sh x.py', {}, "config 'x.py' does not exist"),
        ('lacvit.sh tiny.py --work-dir x', {}, 'set WORK_DIRS'),
        ('lacvit.sh tiny.py', dict(WORK_DIRS='a b'), "WORK_DIRS='a b' holds a blank"),
        pytest.param(
            *('lacvit.sh tiny.py', {}, "'tiny.py' is no config of stage 2"), marks=pytest.mark.slow
        ),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_runs(tmp_path, command, env, line):
    write_project(tmp_path)
    script, *arguments = command.split()
    process = run([ROOT / 'tools' / script, *arguments], tmp_path, **env)
    assert process.returncode == (1 if 'does not' in line or script == 'lacvit.sh' else 2)
    assert line in process.stderr
    assert process.stderr.count('\n') == 1
    assert not (tmp_path / 'planted').exists()


@pytest.mark.parametrize(
    'command, env, expected',
    [
        (
            ['dist_test.sh', 'a config.py', 'a checkpoint.pth', 2, '--out', 'the file'],
            dict(NNODES='3', NODE_RANK='1', MASTER_ADDR='first', PORT='1234'),
            [
                *('-m', 'torch.distributed.run', '--nnodes=3', '--node_rank=1'),
                *('--master_addr=first', '--master_port=1234', '--nproc_per_node=2'),
                *(f'{ROOT}/tools/test.py', 'a config.py', 'a checkpoint.pth'),
                *('--launcher', 'pytorch', '--out', 'the file'),
            ],
        ),
        (
            ['slurm_train.sh', 'gpu', 'my job', 'a config.py', 'work', '--cfg-options', 'a=b c'],
            dict(GPUS='4', SRUN_ARGS='--time=1:00:00 --mem=9G'),
            [
                *('--partition=gpu', '--job-name=my job', '--ntasks=4', '--ntasks-per-node=4'),
                *('--gres=gpu:4', '--cpus-per-task=5', '--kill-on-bad-exit=1', '--time=1:00:00'),
                *('--mem=9G', 'python', '-u', f'{ROOT}/tools/train.py', 'a config.py'),
                *('--work-dir', 'work', '--launcher', 'slurm', '--cfg-options', 'a=b c'),
            ],
        ),
    ],
)
def test_the_launcher_gets_every_argument_unbroken(tmp_path, command, env, expected):
    for name in ('a config.py', 'a checkpoint.pth'):
        (tmp_path / name).touch()
    for name in ('python', 'srun'):  # print their arguments, one a line
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    script, *arguments = command
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    process = run(
        [ROOT / 'tools' / script, *arguments], tmp_path, PATH=path, PYTHON='python', **env
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == expected
