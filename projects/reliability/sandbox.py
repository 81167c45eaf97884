"""Commands run in processes forked from this one, which has imported them."""

import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300  # seconds after which a command hangs


class Outcome(NamedTuple):
    """How a command has ended.

    Attributes:
        status (int): As a shell sees it, 128 and more for signals.
        out (str): What it wrote to standard output.
        err (str): And to standard error.
        seconds (float): That it took.
        program (str): How its own lines begin.
    """

    status: int
    out: str
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
    what: str | Callable, arguments: list, folder: Path, kill_after: float | None = None
) -> Outcome:
    """Run a command to its end, or to where it is killed.

    Args:
        what (str | Callable): Name of a command, path of a script in the repository, or a function.
        arguments (list): Of the command line, or of the function.
        folder (Path): To run in.
        kill_after (float, optional): Seconds to SIGKILL. Defaults to None.
    """
    written = [folder.parent / f'{folder.name}.{name}' for name in ('out', 'err')]
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    begin = time.monotonic()
    child = os.fork()
    if not child:
        _become(what, arguments, folder, written)
    status = None
    while status is None:
        time.sleep(0.005)
        seconds = time.monotonic() - begin
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
        elif seconds > (TIMEOUT if kill_after is None else kill_after):
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            status = -signal.SIGKILL
    texts = [path.read_text(errors='backslashreplace') for path in written]
    what = str(what)
    program = f'{what.rpartition("/")[2] if what.endswith(".py") else f"mmtlalign {what}"}: '
    return Outcome(status if status >= 0 else 128 - status, *texts, seconds, program)


def _become(what, arguments, folder, written) -> None:
    """Never returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        sys.path.insert(0, str(folder))  # as `python -m mmtlalign` has it
        for number, path in enumerate(written, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        _run(what, list(map(str, arguments)) if isinstance(what, str) else arguments)
        status = 0
    except SystemExit as ended:
        status = ended.code
        if not isinstance(status, (int, type(None))):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status or 0)


def _run(what, arguments) -> None:
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
