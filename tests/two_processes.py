"""Run a function in two processes that may average their gradients."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from mmtlalign.commands.distributed import leave_group


def run_two_processes(function: Callable, folder: Path) -> list:
    """Return ``function(0)`` and ``function(1)``, called side by side.

    Args:
        function (Callable): Takes the rank; of a module, for it is pickled.
            ``torch.distributed`` is ready, with gloo.
        folder (Path): For the results.
    """
    multiprocessing.spawn(_call, (function, folder), nprocs=2)
    return [torch.load(folder / f'{rank}.pt') for rank in range(2)]


def _call(rank: int, function: Callable, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', f'file://{folder}/init', rank=rank, world_size=2)
    torch.save(function(rank), folder / f'{rank}.pt')
    leave_group()
