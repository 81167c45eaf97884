"""TL-Align (arXiv 2210.06455, section 3.3): half own, half attended."""

from torch import Tensor

from . import Propagation, register_propagation


@register_propagation('tlalign')
class TLAlign(Propagation):
    """``s <- (s + mean_heads(A) s) / 2``; ``A s`` where nothing is added."""

    def __call__(self, share: Tensor | None, mixed: Tensor, parts=None) -> Tensor:
        return mixed if share is None else (share + mixed) / 2
