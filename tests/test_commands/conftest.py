"""The training commands, run once for all, or up to a mistake."""

import io
import logging
import runpy
import sys
from contextlib import contextmanager, redirect_stdout

import pytest


@contextmanager
def project_in(folder):
    """Work in a folder with the tiny project, and put back what tools change.

    Yields:
        Callable: Runs a tool in this process.
    """
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.visualization import Visualizer

    from ..tiny import ROOT, without_report, write_project

    def run(name, *arguments, report=False):
        # By names that end in seconds: two runs of one second would share them
        for managed in (MMLogger, MessageHub, Visualizer):
            managed._instance_dict.clear()
        arguments = arguments if report else without_report(name, *arguments)
        patch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')

    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv('OMP_NUM_THREADS', '1')
        yield run
    logging.disable(logging.NOTSET)  # visualize_alignment.py has disabled it


@pytest.fixture(scope='session')
def whole(tmp_path_factory):
    """Folder and output of an uninterrupted training."""
    folder = tmp_path_factory.mktemp('whole')
    with project_in(folder) as run, redirect_stdout(io.TextIOWrapper(io.BytesIO())) as said:
        run('train.py', 'tiny.py', report=True)
        said.seek(0)
        return folder, said.read()


@pytest.fixture
def trained(whole):
    """Path of the last checkpoint of that training."""
    return whole[0] / 'work_dirs/tiny/epoch_3.pth'


@pytest.fixture
def here(tmp_path):
    """Run a tool in this process, in a folder with the tiny project."""
    with project_in(tmp_path) as run:
        yield run


@pytest.fixture
def ends_with(here):
    """Run a tool here, up to where a user's mistake ends it."""

    def run(name, *arguments):
        with pytest.raises(SystemExit) as ended:
            here(name, *arguments)
        return ended.value.code

    return run


@pytest.fixture
def terminal(monkeypatch):
    """Standard output is a terminal that can move its cursor, 150 characters wide."""
    monkeypatch.delenv('TTY_INTERACTIVE', raising=False)
    for name, value in dict(TTY_COMPATIBLE='1', TERM='xterm', COLUMNS='150').items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def convert(tmp_path):
    """Save a checkpoint, convert it in this process, load what was written."""
    import torch

    from mmtlalign.commands.convert import main
    from mmtlalign.errors import one_line_errors

    def run(content, *arguments, out='out.pth'):
        source, out = tmp_path / 'in.pth', tmp_path / out
        torch.save(content, source)
        with one_line_errors('convert'):
            main([str(source), str(out), *map(str, arguments)])
        return torch.load(out)

    return run
