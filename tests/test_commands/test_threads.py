import os

import pytest
import torch

from mmtlalign.commands.threads import free_cores, set_threads


@pytest.fixture
def machine(monkeypatch):
    """Four cores, of which this process may use 0, 1 and 3; what torch is told."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1, 3}, raising=False)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    chosen = []
    monkeypatch.setattr(torch, 'set_num_threads', chosen.append)

    def busy(*percent):
        monkeypatch.setattr('psutil.cpu_percent', lambda interval, percpu: percent)
        return chosen

    return busy


@pytest.mark.parametrize(
    'percent, free',
    [((0, 0, 0, 0), 3), ((0, 0, 100, 0), 3), ((40, 40, 0, 40), 2), ((100, 100, 0, 100), 1)],
)
def test_free_cores_are_those_allowed_less_those_in_use(machine, percent, free):
    machine(*percent)
    assert free_cores(0) == free


def test_one_process_takes_the_free_cores_each_of_several_one_and_the_users_number_is_obeyed(
    machine, monkeypatch
):
    chosen = machine(0, 100, 0, 0)
    line = set_threads(distributed=False)
    assert 'Threads: 2' in line and 'free' in line
    assert 'Threads: 1' in set_threads(distributed=True)
    assert chosen == [2, 1]
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    for distributed in (False, True):
        assert 'OMP_NUM_THREADS=1' in set_threads(distributed)
    assert chosen == [2, 1]
