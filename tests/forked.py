"""Tools in processes of their own, which need not import the hosts again.

A server imports torch and the hosts once, and each tool begins as a fork of
it, with its own folder, environment, arguments and output.
"""

import atexit
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path


def run_forked(script: Path, arguments: list[str], folder: Path, env: dict[str, str]):
    """Run a Python script in a folder, with nothing but a given environment; what libraries read
    of it while they are imported is the server's. Return the finished process, with text."""
    server = _server()
    with tempfile.TemporaryDirectory() as outputs:
        paths = [os.path.join(outputs, name) for name in ('stdout', 'stderr')]
        command = [str(script), *arguments]
        request = dict(command=command, folder=str(folder), env=env, outputs=paths)
        print(json.dumps(request), file=server.stdin, flush=True)
        returncode = int(server.stdout.readline())
        texts = [Path(path).read_text(errors='backslashreplace') for path in paths]
    return subprocess.CompletedProcess(command, returncode, *texts)


@cache
def _server() -> subprocess.Popen:
    root = Path(__file__).resolve().parents[1]
    server = subprocess.Popen(
        [sys.executable, '-m', 'tests.forked'],
        cwd=root,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.stdin.close)  # which ends it
    return server


def _serve() -> None:
    import mmtlalign.commands.train  # noqa: F401  it imports what others do, and torch
    from tests.once import settle

    settle()
    server_path = list(sys.path)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(request, server_path)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(request: dict, path: list[str]) -> None:
    """Be the process that was asked for."""
    import numpy as np
    import torch

    for number, name in enumerate(['/dev/null', *request['outputs']]):
        opened = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request['folder'])
    os.environ.clear()
    os.environ.update(request['env'])
    script, *_ = sys.argv = request['command']
    own = request['env']['PYTHONPATH'].split(os.pathsep)
    sys.path[:] = [os.path.dirname(script), *own, *path]
    # A fork draws as its siblings do.
    random.seed()
    np.random.seed()
    torch.seed()
    runpy.run_path(script, run_name='__main__')


if __name__ == '__main__':
    _serve()
