"""Disturbed images and calibration, for any classifier of mmpretrain."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def drop_patches(
    images: Tensor, fraction: float, patch_size: int, generator: torch.Generator | None = None
) -> Tensor:
    """Replace a random part of the patches of every image by the mean colour.

    Naseer et al., Intriguing Properties of Vision Transformers (arXiv 2105.10497), section 3.1.

    Args:
        images (Tensor): (B, C, H, W), normalised, so that 0 is the mean
            colour of the training images.
        fraction (float): Of the patches, in [0, 1]; rounded to whole patches.
        patch_size (int): In pixels; H and W must be multiples of it.
        generator (torch.Generator, optional): Where draws come from, on the
            CPU. Defaults to torch's own.

    Raises:
        ValueError: For a fraction out of range or a size that does not fit.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f'fraction={fraction} must lie in [0, 1]')
    batch, _, height, width = images.shape
    if height % patch_size or width % patch_size:
        raise ValueError(
            f'images of {height}x{width} pixels cannot be divided into patches of {patch_size}'
        )
    rows, cols = height // patch_size, width // patch_size
    rank = torch.rand(batch, rows * cols, generator=generator).argsort(1).argsort(1)
    keep = (rank >= round(fraction * rows * cols)).view(batch, 1, rows, cols)
    keep = F.interpolate(keep.float(), scale_factor=patch_size)
    return images * keep.to(images)


def fitting_patch_size(height: int, width: int, token: int = 1) -> int:
    """Side, in pixels, of patches that divide images into 14 x 14, as in the paper, or nearly so.

    Args:
        height, width (int): Of the images, in pixels.
        token (int): Side of what a backbone makes a token of, in pixels. A patch is made of whole
            ones, unless these do not divide the images. Defaults to 1.
    """
    side = min(height, width)
    divisors = [n for n in range(1, side + 1) if height % n == 0 and width % n == 0]
    whole = [n for n in divisors if n % token == 0]
    return min(whole or divisors, key=lambda n: abs(14 * n - side))


def fgsm(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    strengths: Sequence[float],
    mean: Tensor,
    std: Tensor,
) -> Iterator[Tensor]:
    """Fast gradient sign method (Goodfellow et al., arXiv 1412.6572).

    Args:
        classifier (Callable): Images (B, C, H, W) -> logits (B, K).
        images (Tensor): (B, C, H, W), normalised.
        labels (Tensor): (B,), the true classes.
        strengths (Sequence[float]): Largest changes of a pixel, in pixel values of 0 to 255. All
            share one gradient.
        mean, std (Tensor): (C, 1, 1), of the normalisation, in pixel values.

    Yields:
        Tensor: Images for each strength, normalised; their pixels lie in [0, 255].
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(classifier(images), labels, reduction='sum')
        (grad,) = torch.autograd.grad(loss, images)
    pixels = images.detach() * std + mean
    for strength in strengths:
        changed = (pixels + strength * grad.sign()).clamp(0, 255)
        yield (changed - mean) / std


def expected_calibration_error(scores: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, in [0, 1].

    Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), equation 3.

    Args:
        scores (Tensor): (N, K), probabilities.
        labels (Tensor): (N,).
        bins (int): Of equal width over (0, 1]. Defaults to 15.
    """
    confidence, predicted = scores.double().max(1)
    return calibration_error(confidence, predicted == labels, bins)


def calibration_error(confidence, right, bins: int = 15) -> float:
    """The same of predictions, (N,), kept as their confidence and whether they are right."""
    confidence, right = (torch.as_tensor(part, dtype=torch.double) for part in (confidence, right))
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.double).index_add_(0, index, right - confidence)
    return (gaps.abs().sum() / len(right)).item()
