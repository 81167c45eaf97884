"""Labels by area, as in CutMix (arXiv 1905.04899): the baseline."""

from torch import Tensor

from mmtlalign.registry import MODELS

from .label_target import LabelTarget


@MODELS.register_module()
class AreaTarget(LabelTarget):
    """The share is ``lam``, the part of the image that is its own.

    A token's share is the part of its patch that is.

    Args:
        monitor (bool): Trace all the same, for the log only. Defaults to False.
    """

    weighs_tokens = True

    def __init__(self, monitor: bool = False) -> None:
        self.monitor = monitor
        self.trace_cfg = {} if monitor else None

    def share(self, record, trace, scores, data_samples) -> Tensor:
        return record.lam

    def token_share(self, record, trace) -> Tensor:
        return record.token_share

    def logged_share(self, trace, share) -> Tensor | None:
        return trace.output_share if self.monitor else None
