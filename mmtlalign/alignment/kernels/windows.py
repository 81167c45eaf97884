"""The softmax of windows, read once for the shares of all heads."""

import torch
from torch import Tensor

from . import choice


def mean_heads_of_windows(matrix: Tensor, channels: Tensor) -> Tensor:
    """``mean_heads(A) @ channels``: (W, H, P, P), (W, P, 2) -> (W, P, 2), float32."""
    return matrix.mean(dim=1, dtype=torch.float32) @ channels


def attend_windows(matrix: Tensor, channels: Tensor) -> Tensor:
    """The same by the kernel that is best here, found out at first use."""
    if matrix.device.type != 'cuda' or torch.compiler.is_compiling():
        return mean_heads_of_windows(matrix, channels)
    kernel = choice.choose_for_windows(mean_heads_of_windows, matrix, channels)
    return kernel(matrix, channels)
