"""What the runners of the studies share: trainings that go on after a kill."""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmtlalign.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


class BusyError(UserError):
    """Another process is at work in a folder."""


@contextmanager
def hold(folder: Path) -> Iterator[TextIO]:
    """A folder's ``output.txt``, which no other process can hold meanwhile.

    Raises:
        BusyError: If one does, even one that outlived the runner that started it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'output.txt', 'a') as output:
        try:
            # A tool inherits the open file, and with it the lock.
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f'another process is at work in {folder}: let it '
                'end or kill it, then start this command again'
            ) from None
        yield output


def run_held(
    output: TextIO, *command, show: Callable[[str], None] | None = None, **env: str
) -> None:
    """Run one of our tools; its output goes to what is held, its CPU seconds beside that.

    Args:
        output (TextIO): Of :func:`hold`.
        command: Script and arguments.
        show (Callable, optional): Called with the time left, as a training tells it.
        env (str): Variables of its environment, beside our own.

    Raises:
        UserError: If it fails, where its output is.
    """
    path = Path(output.name)
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **env},
    ) as process:
        count = count_cpu_seconds(path.parent / 'cpu_seconds', process.pid)
        while process.poll() is None:
            next(count)
            if show:
                show(time_left(path))
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
    if process.returncode:
        raise UserError(
            f'{command[0]} failed with exit status {process.returncode}: see {path}, '
            'then start this command again'
        )


def time_left(output: Path) -> str:
    """What a training said last about it, for instance '0:24:42'."""
    with open(output, 'rb') as file:
        file.seek(max(output.stat().st_size - 4096, 0))
        found = re.findall(rb'eta: ([\w ,:]+?)  ', file.read())
    return found[-1].decode() if found else ''


def count_cpu_seconds(total: Path, pid: int) -> Iterator[None]:
    """Keep the CPU time of all processes of a job in a file, up to a second
    before a kill; every step of the iterator counts anew."""
    before = read_cpu_seconds(total)
    while True:
        with suppress(psutil.NoSuchProcess):
            write(total, before + sum(psutil.Process(pid).cpu_times()[:4]))  # its children's too
        yield


def read_cpu_seconds(total: Path) -> float:
    """What was counted so far, 0 without a file."""
    return json.loads(total.read_text()) if total.is_file() else 0


def write(path: Path, result: dict | float) -> None:
    """Write a JSON file that is whole or absent, whenever this is killed."""
    draft = path.with_suffix('.part')
    draft.write_text(json.dumps(result, indent=1) + '\n')
    draft.rename(path)


def progress_bar() -> Progress:
    """Counts units or trainings, on standard error."""
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), speed_estimate_period=1e6
    )
