import os

import pytest
import torch

from mmtlalign.commands.threads import set_threads


@pytest.mark.parametrize(
    'percent, free',
    [((0, 0, 0, 0), 3), ((0, 0, 100, 0), 3), ((40, 40, 0, 40), 2), ((100, 100, 0, 100), 1)],
)
def test_one_process_takes_the_free_cores_each_of_several_one_and_the_users_number_is_obeyed(
    monkeypatch, percent, free
):
    """Of four cores, of which this process may use 0, 1 and 3."""
    chosen = []
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1, 3}, raising=False)
    monkeypatch.setattr('psutil.cpu_percent', lambda interval, percpu: percent)
    monkeypatch.setattr(torch, 'set_num_threads', chosen.append)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    line = set_threads(distributed=False)
    assert f'Threads: {free}' in line and 'free' in line
    assert 'Threads: 1' in set_threads(distributed=True)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    for distributed in (False, True):
        assert 'OMP_NUM_THREADS=1' in set_threads(distributed)
    assert chosen == [free, 1]
