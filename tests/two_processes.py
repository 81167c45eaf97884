"""Run a function, or a script, in two processes that may average their gradients.

Both are forks of one that has imported torch and the hosts; see ``forked``.
"""

import os
import runpy
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import distributed

from mmtlalign.commands.distributed import leave_group
from tests.forked import run_forked
from tests.tiny import environment


def run_two_processes(function: Callable, folder: Path) -> list:
    """Return ``function(0)`` and ``function(1)``, called side by side with gloo;
    a folder is for the results."""
    done = run_twice(folder, function.__module__, function.__name__)
    assert done.returncode == 0, done.stdout + done.stderr
    return [torch.load(folder / f'{rank}.pt') for rank in range(2)]


def run_twice(folder: Path, *command):
    """Run a script and its arguments as torchrun would, or a function, given by
    its module and name; return the finished process, with text."""
    env = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port())
    env = environment(folder, **env, CUDA_VISIBLE_DEVICES='')
    return run_forked(Path(__file__), [str(word) for word in command], folder, env)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def _be_both(target: str, *arguments: str) -> None:
    module = None if target.endswith('.py') else import_module(target)
    other = os.fork()
    rank = int(other == 0)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    if module:
        torch.set_num_threads(1)
        distributed.init_process_group('gloo')
        torch.save(getattr(module, *arguments)(rank), f'{rank}.pt')
        leave_group()
    else:
        sys.argv = [target, *arguments]
        runpy.run_path(target, run_name='__main__')
    if rank == 0 and os.waitpid(other, 0)[1]:
        sys.exit('the other process failed')


if __name__ == '__main__':
    _be_both(*sys.argv[1:])
