"""Labels that follow the tokens, for every token: after TL-Align (arXiv 2210.06455)."""

from torch import Tensor

from mmtlalign.registry import MODELS

from .aligned_target import AlignedTarget


@MODELS.register_module()
class AlignedTokenTarget(AlignedTarget):
    """The shares that arrive at what the head reads, and at every patch.

    TL-Align trains on the former alone and drops the others, which it has computed, too.

    Args: Those of :class:`AlignedTarget`.
    """

    weighs_tokens = True

    def __init__(self, propagation: str | dict = 'tlalign') -> None:
        super().__init__(propagation)
        self.trace_cfg['record'] = True

    def token_share(self, record, trace) -> Tensor:
        return trace.output_token_share
