"""Commands run in processes forked from this one, which has imported them."""

import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300  # seconds after which a command hangs


class Outcome(NamedTuple):
    """How a command has ended.

    Attributes:
        status (int): As a shell sees it, 128 and more for signals.
        err (str): What it wrote to standard error.
        seconds (float): That it took.
        program (str): How its own lines begin.
    """

    status: int
    err: str
    seconds: float
    program: str

    @property
    def line(self) -> str:
        """Its last word on standard error."""
        return next(iter(reversed(self.err.strip().splitlines())), '')

    def is_clear(self, named: str = '') -> bool:
        """Whether it ended with an error told in one line, its only one and
        the last, that names something; libraries may have warned before."""
        said = [line for line in self.err.splitlines() if line.startswith(self.program)]
        is_one = said[-1:] == [self.line] and (len(said) == 1 or self.status == 2)
        has_trace = 'Traceback (most recent call last)' in self.err
        return 0 < self.status < 128 and is_one and named in self.line and not has_trace


def import_all() -> None:
    """What commands import, once for all of them."""
    from mmtlalign.__main__ import COMMANDS

    for name in COMMANDS:
        import_module(f'mmtlalign.commands.{name}')
    for name in ('mmtlalign.apis', 'mmtlalign.datasets', 'mmdet.apis', 'mmseg.apis'):
        import_module(name)


def call(
    what: str | Callable, arguments: list, folder: Path, kill_after: float = TIMEOUT
) -> Outcome:
    """Run a command to its end, or to where it is killed.

    Args:
        what (str | Callable): Name of a command, path of a script in the repository, or a function.
        arguments (list): Of the command line, or of the function.
        folder (Path): To run in.
        kill_after (float): Seconds to SIGKILL. Defaults to what no command takes.
    """
    written = [folder.parent / f'{folder.name}.{name}' for name in ('out', 'err')]
    child = get_context('fork').Process(target=_become, args=(what, arguments, folder, written))
    begin = time.monotonic()
    child.start()
    child.join(kill_after)
    if child.exitcode is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.join()
    seconds, status = time.monotonic() - begin, child.exitcode
    err = written[1].read_text(errors='backslashreplace')
    what = str(what)
    program = f'{what.rpartition("/")[2] if what.endswith(".py") else f"mmtlalign {what}"}: '
    return Outcome(status if status >= 0 else 128 - status, err, seconds, program)


def _become(what: str | Callable, arguments: list, folder: Path, written: list[Path]) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    sys.path.insert(0, str(folder))  # as `python -m mmtlalign` has it
    for number, path in enumerate(written, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if not isinstance(what, str):
        what(*arguments)
    elif what.endswith('.py'):
        sys.argv = [what, *arguments]
        sys.path.insert(0, str((ROOT / what).parent))
        runpy.run_path(str(ROOT / what), run_name='__main__')
    else:
        from mmtlalign.__main__ import run

        sys.argv = [f'mmtlalign {what}', *arguments]
        run(what)
