"""How much memory a training has needed."""

import resource
import sys

import torch


def peak_memory() -> float:
    """MiB: of tensors on the GPU, or of this process where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_of_process()


def peak_of_process() -> float:
    """MiB."""
    unit = 2**20 if sys.platform == 'darwin' else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
