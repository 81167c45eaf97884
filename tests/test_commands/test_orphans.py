"""Processes that a command has started end with it, even if it is killed."""

import multiprocessing
import os
import signal
import time

import pytest

from mmtlalign.commands.token_labels import end_with_parent

FORK = multiprocessing.get_context('fork')


def start_child(pipe):
    child = FORK.Process(target=wait, args=(pipe,))
    child.start()
    child.join()


def wait(pipe):
    end_with_parent()
    pipe.send(os.getpid())
    time.sleep(600)


def test_a_child_ends_when_its_parent_is_killed():
    ours, theirs = FORK.Pipe(duplex=False)
    parent = FORK.Process(target=start_child, args=(theirs,))
    parent.start()
    theirs.close()
    assert ours.recv() != parent.pid
    os.kill(parent.pid, signal.SIGKILL)
    # the pipe is closed by the last process that holds it
    assert ours.poll(timeout=None)
    with pytest.raises(EOFError):
        ours.recv()
    parent.join()
