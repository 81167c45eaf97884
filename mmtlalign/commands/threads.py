"""How many threads a run on a shared machine should take."""

import os

import torch


def free_cores(interval: float = 0.5) -> int:
    """Count the cores this process may use that nobody uses now, at least 1.

    Measured over half a second by default, not read from the load average: that one still
    remembers the installation or training that ended a minute ago.
    """
    import psutil

    busy = psutil.cpu_percent(interval=interval, percpu=True)
    if hasattr(os, 'sched_getaffinity'):
        allowed = os.sched_getaffinity(0)
        busy = [share for core, share in enumerate(busy) if core in allowed]
    return max(1, round(sum(1 - share / 100 for share in busy)))


def set_threads(distributed: bool) -> str:
    """Set torch's thread count and say, in a line for the log, what was chosen:
    ``OMP_NUM_THREADS``, else the free cores for a single process, and one for each of several."""
    if given := os.environ.get('OMP_NUM_THREADS'):
        return f'Threads: {torch.get_num_threads()} (OMP_NUM_THREADS={given})'
    threads = 1 if distributed else free_cores()
    torch.set_num_threads(threads)
    why = 'one per process' if distributed else 'the cores that are free now'
    return f'Threads: {threads} ({why}; OMP_NUM_THREADS overrides)'
