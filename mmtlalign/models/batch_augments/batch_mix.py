"""What all mixing methods share: random draws, partners, the patch grid."""
from abc import ABCMeta, abstractmethod
from typing import Tuple

import torch
from mmengine.dist import get_rank
from torch import Tensor

from .mix_record import MixRecord

PARTNERS = ('reverse', 'random')


class BatchMix(metaclass=ABCMeta):
    """Base of mixing methods that leave a :class:`MixRecord`.

    ``__call__(inputs, scores) -> (inputs, scores)`` is the contract of
    mmpretrain's batch augments, so every method also works in a stock
    ``ClsDataPreprocessor``.

    Args:
        patch_size (int): Edge of the backbone's patches in pixels.
            Defaults to 16.
        partner (str): 'reverse' pairs image i with image B-1-i, as in the
            paper; 'random' draws a permutation. Defaults to 'reverse'.
    """

    def __init__(self, patch_size: int = 16, partner: str = 'reverse') -> None:
        if not isinstance(patch_size, int) or patch_size < 1:
            raise ValueError(f'patch_size={patch_size!r} must be a positive '
                             'integer, the patch edge in pixels.')
        if partner not in PARTNERS:
            raise ValueError(
                f'partner={partner!r} must be one of {PARTNERS}.')
        self.patch_size = patch_size
        self.partner = partner
        # Its own generator: draws neither depend on nor disturb the others.
        # Until `seed` is called it follows the run's seed and the rank.
        self.generator = torch.Generator(device='cpu')
        self.generator.manual_seed((torch.initial_seed() + get_rank()) % 2**63)

    def seed(self, seed: int) -> None:
        """Restart the draws from a seed."""
        self.generator.manual_seed(seed)

    @abstractmethod
    def draw(self, inputs: Tensor) -> MixRecord:
        """Draw what to mix in a batch of images (B, C, H, W).

        Raises:
            ValueError: If the images are not divisible into patches.
        """

    @abstractmethod
    def apply(self, inputs: Tensor, record: MixRecord) -> Tensor:
        """Mixed images (B, C, H, W); ``inputs`` are left as they are."""

    def __call__(self, inputs: Tensor,
                 scores: Tensor) -> Tuple[Tensor, Tensor]:
        """Mix images (B, C, H, W) and scores (B, num_classes) by area."""
        record = self.draw(inputs)
        return self.apply(inputs, record), mix_scores(scores, record)

    def unmixed(self, inputs: Tensor) -> MixRecord:
        """The record of a batch that is left alone."""
        batch = inputs.size(0)
        return MixRecord(
            partner=torch.arange(batch),
            token_share=torch.ones(batch, *self.grid(inputs)),
            lam=torch.ones(batch),
            method=self)

    def grid(self, inputs: Tensor) -> Tuple[int, int]:
        """Rows and columns of patches in images (B, C, H, W)."""
        height, width = inputs.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'Images of {height}x{width} pixels cannot be divided into '
                f'patches of patch_size={self.patch_size}; change one of '
                'them.')
        return height // self.patch_size, width // self.patch_size

    def draw_partner(self, batch: int) -> Tensor:
        """(B,) index of the image mixed into each; may be itself."""
        if self.partner == 'reverse':
            return torch.arange(batch - 1, -1, -1)
        return torch.randperm(
            batch, generator=self.generator, device='cpu')

    def draw_lam(self, alpha: float) -> float:
        """A sample of Beta(alpha, alpha)."""
        concentration = torch.full((2, ), alpha, dtype=torch.float64,
                                   device='cpu')
        return torch._sample_dirichlet(
            concentration, generator=self.generator)[0].item()

    def draw_index(self, end: int) -> int:
        """A whole number in [0, end)."""
        return torch.randint(
            end, (), generator=self.generator, device='cpu').item()


def check_alpha(alpha: float) -> float:
    """alpha if it is a positive number, else ValueError."""
    if not alpha > 0:
        raise ValueError(f'alpha={alpha!r} of Beta(alpha, alpha) must be '
                         'positive; to mix less often give `probs`.')
    return alpha


def mix_scores(scores: Tensor, record: MixRecord) -> Tensor:
    """Area targets: lam * own + (1 - lam) * partner, (B, num_classes)."""
    lam = record.lam.to(scores.device, torch.float32)[:, None]
    return lam * scores + (1 - lam) * scores[record.partner]
