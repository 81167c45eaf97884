"""What every target promises the classifier."""

from abc import ABCMeta, abstractmethod

from mmpretrain.structures import DataSample
from torch import Tensor

from mmtlalign.alignment import LabelTrace

from ..batch_augments import MixRecord


class LabelTarget(metaclass=ABCMeta):
    """What share of its own label a mixed sample is trained on.

    Attributes:
        trace_cfg (dict | None): Arguments of :class:`LabelTrace`, beside the
            backbone, for what the target reads; None runs no trace.
        weighs_tokens (bool): Whether it has a say on single tokens, too; what
            trains on every token's label asks for such a target.
    """

    trace_cfg: dict | None = None
    weighs_tokens = False

    @abstractmethod
    def share(
        self,
        record: MixRecord,
        trace: LabelTrace | None,
        scores: Tensor,
        data_samples: list[DataSample],
    ) -> Tensor:
        """Weigh the labels of a batch.

        Args:
            record (MixRecord): What was mixed; on the CPU.
            trace (LabelTrace | None): After the forward of this batch; None if ``trace_cfg`` is.
            scores (Tensor): (B, num_classes), what the head gives for it.
            data_samples (list[DataSample]): With each image's own label as ``gt_score``.

        Returns:
            Tensor: (B,), the share of the own label, the partner's being the
            rest; or (B, 2), weights of own and partner.
        """

    def token_share(self, record: MixRecord, trace: LabelTrace | None) -> Tensor:
        """Weigh the labels of all patch tokens, if ``weighs_tokens``: the share of the own label in
        each, (B, rows, cols)."""
        raise NotImplementedError

    def logged_share(self, trace: LabelTrace | None, share: Tensor) -> Tensor | None:
        """What the log shows as ``aligned_share``, (B,), or None; of what :meth:`share` gave."""
        return (share if share.ndim == 1 else share[:, 0]).detach()
