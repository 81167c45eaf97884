"""Two machines, for what the network tells: namespaces joined by a cable."""

import os
import shutil
import subprocess
from contextlib import ExitStack

import pytest

from ..test_commands.happens import write_disturbed
from ..test_commands.test_train_and_test import load, same
from ..tiny import ROOT, environment, write_project
from ..two_processes import run_twice
from .test_launchers import KILL_ONCE

PORT = '29500'  # of namespaces of their own
ADDRESS = '10.77.0.{}'


def ip(*words):
    subprocess.run(['ip', *words], check=True, capture_output=True, text=True)


@pytest.fixture
def nodes():
    """Two network namespaces, and their cables; a skip where they cannot be made."""
    if not shutil.which('ip'):
        pytest.skip('there is no `ip` to make network namespaces with')
    names = [f'mmtlalign{os.getpid()}{side}' for side in 'ab']
    cables = [f'tla{os.getpid() % 10**8}{side}' for side in 'ab']
    with ExitStack() as stack:
        try:
            for name in names:
                ip('netns', 'add', name)
                stack.callback(ip, 'netns', 'del', name)
            ip('link', 'add', cables[0], 'type', 'veth', 'peer', 'name', cables[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f'no privilege to make network namespaces: {error.stderr.strip()}')
        for number, (name, cable) in enumerate(zip(names, cables), 1):
            ip('link', 'set', cable, 'netns', name)
            ip('-n', name, 'addr', 'add', ADDRESS.format(number) + '/24', 'dev', cable)
            ip('-n', name, 'link', 'set', cable, 'up')
            ip('-n', name, 'link', 'set', 'lo', 'up')
        yield list(zip(names, cables))


def train_on(nodes, folder):
    """What ``tools/dist_train.sh`` said and returned on each node."""
    env = dict(NNODES='2', MASTER_ADDR=ADDRESS.format(1), PORT=PORT, CUDA_VISIBLE_DEVICES='')
    started = [
        subprocess.Popen(
            ['ip', 'netns', 'exec', name, ROOT / 'tools/dist_train.sh', 'tiny.py', '1'],
            cwd=folder,
            env=environment(folder, **env, NODE_RANK=str(rank), GLOO_SOCKET_IFNAME=cable),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, (name, cable) in enumerate(nodes)
    ]
    said = [process.communicate()[0] for process in started]
    return said, [process.returncode for process in started]


@pytest.mark.slow
def test_two_nodes_end_and_go_on_as_two_processes_of_one(nodes, tmp_path):
    train = (ROOT / 'tools/train.py', 'tiny.py', '--launcher', 'pytorch', '--no-report')
    straight, broken = tmp_path / 'straight', tmp_path / 'broken'
    straight.mkdir()
    broken.mkdir()
    two_epochs = 'train_cfg.update(max_epochs=2)'
    write_project(straight, two_epochs)
    write_disturbed(broken, 'iter_3', KILL_ONCE, two_epochs)
    done = run_twice(straight, *train)
    assert done.returncode == 0, done.stderr

    said, codes = train_on(nodes, broken)
    assert all(codes), said
    work = broken / 'work_dirs/tiny'
    assert sorted(path.name for path in work.glob('*.pth')) == ['epoch_1.pth']

    done = run_twice(broken, *train, '--resume')
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 1, iter: 2' in done.stdout
    a, b = (load(folder / 'work_dirs/tiny/epoch_2.pth') for folder in (straight, broken))
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(a[part], b[part]), part
