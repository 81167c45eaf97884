"""Processes that a command has started end with it, even if it is killed."""

import subprocess
import sys

from ..tiny import ROOT

PARENT = """
import multiprocessing, os, time
from mmtlalign.commands.token_labels import end_with_parent

def child():
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == '__main__':
    process = multiprocessing.get_context('spawn').Process(target=child)
    process.start()
    process.join()
"""


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / 'parent.py').write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / 'parent.py'],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={'PYTHONPATH': str(ROOT)},
    )
    assert int(parent.stdout.readline()) != parent.pid
    parent.kill()
    # the pipe is closed by the last process that holds it
    assert parent.stdout.read() == b''
    parent.wait()
