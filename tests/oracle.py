"""Token labels moved the slow way: the oracle of the alignment tests.

Every token carries one number per class here, where the package carries a
single share. The stock backbone runs untouched; the inputs of its attention
modules are recorded, their attention matrices rebuilt from the weights, and
the labels moved along explicit lists of positions. Nothing of the package is
imported, so that an error in it cannot hide here as well.
"""

import copy

import torch

from .oracles.vits import vit_labels
from .oracles.windows import swin_labels


def dense_labels(backbone, images, token_labels):
    """:func:`labels_of` in float64, of a copy of the backbone."""
    with torch.no_grad():
        backbone = copy.deepcopy(backbone).double()
        return labels_of(backbone, images.double(), token_labels.double())


def labels_of(backbone, images, token_labels):
    """Move dense labels through a stock mmpretrain backbone.

    Args:
        backbone (nn.Module): A stock ``VisionTransformer``, ``DistilledVisionTransformer``,
            ``DeiT3``, ``SwinTransformer`` or ``SwinTransformerV2``.
        images (Tensor): Mixed images (B, 3, H, W) in its precision.
        token_labels (Tensor): Label of every patch (B, rows, cols, K).

    Returns:
        tuple[list[Tensor], Tensor]: Labels after each block, class token
        first (B, N, K), and the label of what the head reads (B, K).
    """
    labels = swin_labels if hasattr(backbone, 'stages') else vit_labels
    return labels(backbone, images, token_labels)
