"""The softmax of windows, read once for the shares of all heads."""

from functools import partial

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
    kernel = choice.choose_once(
        (matrix.device, matrix.dtype, *matrix.shape[1:], 'windows'),
        _candidates,
        partial(_gap, matrix[:2], channels[:2]),
        lambda kernel: choice.seconds(partial(kernel, matrix, channels)),
    )
    return kernel(matrix, channels)


def _candidates() -> dict:
    triton = partial(choice.load, 'triton', 'window_pass')
    return dict(triton=triton, mean=lambda: mean_heads_of_windows)


def _gap(matrix: Tensor, channels: Tensor, kernel) -> float:
    expected = matrix.double().mean(dim=1) @ channels.double()
    return choice.limited((kernel(matrix, channels) - expected).abs().max().item(), 1e-5)
