"""Labels that follow the tokens: TL-Align (arXiv 2210.06455); of the image, or of every token."""

from torch import Tensor

from mmtlalign.registry import MODELS

from .label_target import LabelTarget


@MODELS.register_module()
class AlignedTarget(LabelTarget):
    """The share that arrives at what the head reads.

    Args:
        propagation (str | dict): How shares are updated where tokens mix, as
            in :class:`LabelTrace`. Defaults to 'tlalign'.
    """

    def __init__(self, propagation: str | dict = 'tlalign') -> None:
        self.trace_cfg = dict(propagation=propagation)

    def share(self, record, trace, scores, data_samples) -> Tensor:
        return trace.output_share


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
