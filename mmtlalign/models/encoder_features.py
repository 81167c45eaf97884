"""One feature vector per image from whatever a backbone puts out."""

import torch
from torch import Tensor, nn


def encoder_features(backbone: nn.Module, outputs) -> Tensor:
    """Reduce a backbone's last output to what a linear head would read.

    Args:
        backbone (nn.Module): Where the outputs come from.
        outputs (tuple | Tensor): As its ``forward`` returns them. Of the last one is taken

            - (B, C), ``out_type`` 'cls_token' and 'avg_featmap': itself;
            - (B, C, H, W), Swin and ``out_type='featmap'``: the mean over positions;
            - (B, N, C), ``out_type='raw'``: the class token if there is one, else the mean;
            - a pair of (B, C), distilled: the mean of both.

    Returns:
        Tensor: (B, C).
    """
    if not isinstance(outputs, Tensor):
        outputs = outputs[-1]
    if not isinstance(outputs, Tensor):
        return torch.stack(tuple(outputs)).mean(0)
    if outputs.ndim == 4:
        return outputs.mean((2, 3))
    if outputs.ndim == 2:
        return outputs
    return outputs.mean(1) if getattr(backbone, 'cls_token', None) is None else outputs[:, 0]


@torch.no_grad()
def extract_features(model: nn.Module, batch: dict) -> Tensor:
    """Features (B, C) of the images of a batch, as a dataloader gives it.

    Args:
        model (nn.Module): Not wrapped, in evaluation mode, with a ``backbone``.
        batch (dict): ``inputs`` and ``data_samples``, not yet preprocessed.
    """
    inputs = model.data_preprocessor(batch, False)['inputs']
    return encoder_features(model.backbone, model.backbone(inputs))
