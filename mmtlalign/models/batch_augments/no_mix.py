"""No mixing, for the batches that are left alone."""

from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class NoMix(BatchMix):
    """Leave images and labels as they are.

    Args:
        patch_size (int): Edge of the backbone's patches in pixels. Defaults to 16.
    """

    def draw(self, inputs: Tensor) -> MixRecord:
        return self.unmixed(inputs)

    def apply(self, inputs: Tensor, record: MixRecord) -> Tensor:
        return inputs
