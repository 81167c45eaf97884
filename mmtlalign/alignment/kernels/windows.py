"""The softmax of windows, read once for the shares of all heads."""

from functools import partial

import torch
from torch import Tensor

from . import choice


def mean_heads_of_windows(matrix: Tensor, channels: Tensor) -> Tensor:
    """``mean_heads(A) @ channels``: (W, H, P, P), (W, P, 2) -> (W, P, 2), float32."""
    return matrix.mean(dim=1, dtype=torch.float32) @ channels


def attend_windows(matrix: Tensor, channels: Tensor) -> Tensor:
    """The same by what reads the matrix fastest here: that, or Triton's kernel."""
    if matrix.device.type not in choice.TIMED or torch.compiler.is_compiling():
        return mean_heads_of_windows(matrix, channels)

    def gap(kernel) -> float:
        expected = matrix[:2].double().mean(dim=1) @ channels[:2].double()
        found = kernel(matrix[:2], channels[:2])
        return choice.limited((found - expected).abs().max().item(), 1e-5)

    kernel = choice.choose_once(
        (matrix.device, matrix.dtype, *matrix.shape[1:], 'windows'),
        lambda: dict(
            triton=partial(choice.load, 'triton', 'window_pass'), mean=lambda: mean_heads_of_windows
        ),
        gap,
        lambda kernel: choice.seconds(partial(kernel, matrix, channels)),
    )
    return kernel(matrix, channels)
