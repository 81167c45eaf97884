"""How much memory a training has needed."""

import resource
import sys


def peak_of_process() -> float:
    """MiB."""
    unit = 2**20 if sys.platform == 'darwin' else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
