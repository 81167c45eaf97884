"""Bars on standard error for what takes longer than a moment."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

NUM_THREADS = 16  # they wait for the disk most of the time
WORTH_A_BAR = 1000  # files
WORTH_BYTES = 50 << 20


@contextmanager
def track_bytes(path: str) -> Iterator[Callable[[int], None]]:
    """A bar over a large file; gives what to call with the bytes read."""
    size = os.path.getsize(path)
    with _bar(
        f'reading {os.path.basename(path)}', size, DownloadColumn(), size >= WORTH_BYTES
    ) as advance:
        yield advance


def in_threads(function: Callable, items: Sequence, what: str) -> list:
    """What a function gives for each item, in order, with a bar over many.

    Args:
        function (callable): Of one item; its first exception is raised.
        items (Sequence): Paths, for example.
        what (str): What the bar is called.
    """
    with (
        ThreadPoolExecutor(NUM_THREADS) as pool,
        _bar(what, len(items), MofNCompleteColumn(), len(items) >= WORTH_A_BAR) as advance,
    ):
        results = []
        try:
            for result in pool.map(function, items):
                results.append(result)
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return results


@contextmanager
def _bar(what: str, total: int, column, shown: bool):
    with Progress(
        TextColumn(what),
        BarColumn(),
        column,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not shown,
    ) as bar:
        task = bar.add_task('', total=total)
        yield lambda count: bar.advance(task, count)
