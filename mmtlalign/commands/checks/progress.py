"""Bars on standard error for what takes longer than a moment."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import BinaryIO

import rich.progress
from rich.console import Console

NUM_THREADS = 16  # they wait for the disk most of the time
WORTH_A_BAR = 1000  # files
WORTH_BYTES = 50 << 20


def open_with_bar(path: str) -> AbstractContextManager[BinaryIO]:
    """A file to read, with a bar over a large one."""
    return rich.progress.open(
        path,
        'rb',
        description=f'reading {os.path.basename(path)}',
        console=Console(stderr=True),
        transient=True,
        disable=os.path.getsize(path) < WORTH_BYTES,
    )


def in_threads(function: Callable, items: Sequence, what: str) -> list:
    """What a function gives for each item, in order, with a bar over many; its
    first exception is raised."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = rich.progress.track(
            pool.map(function, items),
            what,
            len(items),
            console=Console(stderr=True),
            transient=True,
            disable=len(items) < WORTH_A_BAR,
        )
        try:
            return list(results)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
