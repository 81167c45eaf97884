"""Imports of torch and the hosts wait for a test: the process that hands
tests out to others reads this file and those beside it, too."""

import random
import signal
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """Files with many slow tests come first: two processes then end together."""
    slow = Counter(item.path for item in items if item.get_closest_marker('slow'))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish():
    from .once import settle

    settle()


def needs_operators() -> None:
    """Skip a test that mmdet, mmseg or building their configs is for."""
    pytest.importorskip(
        'mmcv.ops',
        reason='the operators of mmcv are not compiled; run `bash tools/setup_env.sh --ops`',
    )


@pytest.fixture
def hangup_ends():
    """SIGHUP is not ignored here, even where whatever started the tests ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random state, in whatever order."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_default_scope():
    """No test finds the scope that a runner of an earlier one has set."""
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """What is found about data is kept apart from a user's."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.getbasetemp()))
