"""Average pooling behind backbones that return a list of maps."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mmtlalign.registry import MODELS


@MODELS.register_module()
class LastMapPooling(BaseModule):
    """The mean of the last map, for heads that classify images.

    mmdet's backbones return lists, which mmpretrain's ``GlobalAveragePooling`` refuses.
    """

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        """Pool the last map (B, C, H, W) to one tensor, (B, C)."""
        return (inputs[-1].mean(dim=(-2, -1)),)
