"""The contract between mixing methods, preprocessor, classifier and heads."""
from dataclasses import dataclass
from typing import Optional, Tuple

from torch import Tensor


@dataclass
class MixRecord:
    """What was mixed with what in one batch. All tensors are on the CPU.

    Attributes:
        partner (Tensor): (B,), int64: index of the image mixed into each.
        token_share (Tensor): (B, rows, cols), float32 in [0, 1]: the part of
            each patch that belongs to its own image.
        lam (Tensor): (B,), float32: the part of the whole image that does.
        box (tuple[int], optional): The partner's region in pixels, half-open
            ``(yl, yu, xl, xu)``; None where the mix has no region.
        method (BatchMix, optional): Who applies the record, where several
            methods take turns.
    """
    partner: Tensor
    token_share: Tensor
    lam: Tensor
    box: Optional[Tuple[int, int, int, int]] = None
    method: Optional['BatchMix'] = None  # noqa: F821
