import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from .once import settle

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_finish():
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
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_default_scope():
    """No test finds the scope that a runner of an earlier one has set."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """What is found about data is kept apart from a user's."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.getbasetemp()))
