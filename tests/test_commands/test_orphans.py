"""Processes that a command has started end with it, even if it is killed."""

import multiprocessing
import os
import signal
import time
from argparse import Namespace

import numpy as np
import pytest

from mmtlalign.commands import token_labels

FORK = multiprocessing.get_context('fork')


def test_a_child_ends_when_its_parent_is_killed(monkeypatch):
    def wait(part, args):
        theirs.send(os.getpid())
        time.sleep(600)

    monkeypatch.setattr(multiprocessing, 'get_context', lambda method: FORK)
    monkeypatch.setattr(token_labels, 'annotate_part', wait)
    ours, theirs = FORK.Pipe(duplex=False)
    store = np.rec.array([(False,)], names='done')
    arguments = Namespace(processes=1), store
    parent = FORK.Process(target=token_labels.annotate_in_parallel, args=arguments)
    parent.start()
    theirs.close()
    assert ours.recv() != parent.pid
    os.kill(parent.pid, signal.SIGKILL)
    # the pipe is closed by the last process that holds it
    assert ours.poll(timeout=None)
    with pytest.raises(EOFError):
        ours.recv()
    parent.join()
