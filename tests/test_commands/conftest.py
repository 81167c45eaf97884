"""The training commands, run once for all, or up to a mistake."""

import logging
import runpy
import sys

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.logging import logger as mmengine_logger
from mmengine.visualization import Visualizer

from ..tiny import ROOT, run_tool, without_report, write_project


@pytest.fixture(scope='session')
def whole(tmp_path_factory):
    """Folder and process of an uninterrupted training."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, run_tool('train.py', write_project(folder), folder=folder, report=True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Run a tool in this process, in a folder with the tiny project."""

    def run(name, *arguments):
        # By names that end in seconds: two runs of one second would share them
        for managed in (MMLogger, MessageHub, Visualizer):
            managed._instance_dict.clear()
        arguments = without_report(name, *arguments)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')

    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mmengine_logger, 'print', print, raising=False)
    factory = logging.getLogRecordFactory()
    yield run
    logging.setLogRecordFactory(factory)
    logging.disable(logging.NOTSET)  # visualize_alignment.py has disabled it


@pytest.fixture
def ends_with(here):
    """Run a tool here, up to where a user's mistake ends it."""

    def run(name, *arguments):
        with pytest.raises(SystemExit) as ended:
            here(name, *arguments)
        return ended.value.code

    return run
