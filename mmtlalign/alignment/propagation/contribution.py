"""Shares by what the own image contributes to the residual stream.

Ours; not published elsewhere. Let ``y`` be a block's residual stream after attention and
``own(s)`` the part of it that the own image contributes if its tokens have shares ``s``: ``s x``
of the residual, and of the branch what values ``s v`` give, biases in proportion. ``own`` is
linear in ``s`` and ``own(1) = y``, so that shares can be compared as vectors.
"""

import torch
from torch import Tensor

from ..sites.branch import Branch, Parts
from . import Propagation, register_propagation

MEASURES = ('projection', 'norm')


@register_propagation('contribution')
class Contribution(Propagation):
    """Compare the own image's part of a token with the whole of it.

    - 'projection': ``<own, y> / |y|^2``, cut to [0, 1]. Constants and complements are exact by
      linearity.
    - 'norm': ``|own| / (|own| + |y - own|)``.

    Computed centred, ``own = m y + own(s - m)`` with m the sample's mean share, so that constants
    survive half precision. Where ``y = 0`` the share stays what it was.

    Args:
        measure (str): 'projection' or 'norm'. Defaults to 'projection'.

    Raises:
        ValueError: Another measure.
    """

    needs = frozenset({'matrix'}) | Branch.offers

    def __init__(self, measure: str = 'projection') -> None:
        if measure not in MEASURES:
            raise ValueError(f'measure={measure!r} must be one of {MEASURES}.')
        self.measure = measure

    def __call__(self, share: Tensor | None, mixed: Tensor, parts: Parts | None = None) -> Tensor:
        output, own, mean = parts
        size = output.norm(dim=-1)
        if self.measure == 'projection':
            moved = mean + (own * output).sum(dim=-1) / size.square()
        else:
            own = torch.addcmul(own, mean[..., None], output)
            part = own.norm(dim=-1)
            moved = part / (part + (output - own).norm(dim=-1))
        return moved.clamp(0, 1).where(size > 0, share)
