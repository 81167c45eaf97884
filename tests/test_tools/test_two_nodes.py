"""Two machines, for what the network tells: namespaces joined by a cable."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest

from ..test_commands.test_train_and_test import load, same
from ..tiny import ROOT, run, write_project
from ..two_processes import free_port

PORT = '29500'  # of namespaces of their own
ADDRESS = '10.77.0.{}'
# One node's process is gone at once, as with its machine.
KILL = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Kill(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3 and runner.rank == 1 and not runner._resume:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def ip(*words):
    subprocess.run(['ip', *words], check=True, capture_output=True, text=True)


@pytest.fixture
def nodes():
    """Two network namespaces; a skip where they cannot be made."""
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


def train_on(nodes, folder, *options):
    """What ``tools/dist_train.sh`` said and returned on each node."""
    env = dict(
        os.environ,
        NNODES='2',
        MASTER_ADDR=ADDRESS.format(1),
        PORT=PORT,
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        CUDA_VISIBLE_DEVICES='',
        PYTHONPATH=f'{ROOT}{os.pathsep}{folder}',
    )
    started = [
        subprocess.Popen(
            ['ip', 'netns', 'exec', name, ROOT / 'tools/dist_train.sh', 'tiny.py', '1', *options],
            cwd=folder,
            env=dict(env, NODE_RANK=str(rank), GLOO_SOCKET_IFNAME=cable),
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
    straight, broken = tmp_path / 'straight', tmp_path / 'broken'
    for folder in (straight, broken):
        folder.mkdir()
        write_project(folder)
    done = run(
        [ROOT / 'tools/dist_train.sh', 'tiny.py', 2],
        straight,
        PORT=free_port(),
        CUDA_VISIBLE_DEVICES='',
    )
    assert done.returncode == 0, done.stderr

    (broken / 'kill.py').write_text(KILL)
    (broken / 'tiny.py').write_text(
        (broken / 'tiny.py').read_text()
        + "custom_imports = dict(imports=['kill'])\n"
        + "custom_hooks.append(dict(type='mmengine.Kill'))\n"
    )
    said, codes = train_on(nodes, broken)
    assert all(codes), said
    work = broken / 'work_dirs/tiny'
    assert sorted(path.name for path in work.glob('*.pth')) == ['epoch_1.pth']

    said, codes = train_on(nodes, broken, '--resume')
    assert codes == [0, 0], said
    assert 'resumed epoch: 1, iter: 2' in said[0]
    a, b = (load(folder / 'work_dirs/tiny/epoch_3.pth') for folder in (straight, broken))
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(a[part], b[part]), part
