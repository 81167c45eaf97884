"""What all mixing methods share: random draws, partners, the patch grid."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

import torch
from mmengine.dist import get_rank
from torch import Tensor

from .mix_record import MixRecord

PARTNERS = ('reverse', 'random')
Box = tuple[int, int, int, int]


class BatchMix(metaclass=ABCMeta):
    """Base of mixing methods that leave a :class:`MixRecord`.

    A method draws a record; :meth:`apply` then mixes the images by the record alone.
    ``__call__(inputs, scores) -> (inputs, scores)`` is the contract of mmpretrain's batch augments,
    so every method also works in a stock ``ClsDataPreprocessor``.

    Args:
        patch_size (int): Edge of the backbone's patches in pixels. Defaults to 16.
        partner (str): 'reverse' pairs image i with image B-1-i, as in the
            paper; 'random' draws a permutation. Defaults to 'reverse'.
    """

    def __init__(self, patch_size: int = 16, partner: str = 'reverse') -> None:
        if type(patch_size) is not int or patch_size < 1:
            raise ValueError(
                f'patch_size={patch_size!r} must be a positive integer, the patch edge in pixels.'
            )
        if partner not in PARTNERS:
            raise ValueError(f'partner={partner!r} must be one of {PARTNERS}.')
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

    def apply(self, inputs: Tensor, record: MixRecord) -> Tensor:
        """Mixed images (B, C, H, W); ``inputs`` are left as they are.

        Raises:
            TypeError: If they are integers, which shares would be rounded to.
        """
        if not inputs.is_floating_point():
            raise TypeError(
                f'images are {inputs.dtype}; mix them after they '
                'are normalised, or as floating point numbers.'
            )
        own = self.pixels(record).to(inputs, non_blocking=True)[:, None]
        partner = record.partner.to(inputs.device, non_blocking=True)
        return own * inputs + (1 - own) * inputs[partner]

    def __call__(self, inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Mix images (B, C, H, W) and scores (B, num_classes) by area."""
        record = self.draw(inputs)
        return self.apply(inputs, record), mix_scores(scores, record, record.lam)

    def record(self, inputs: Tensor, token_share: Tensor, **data) -> MixRecord:
        """The record of shares just drawn, with a partner drawn now.

        Args:
            inputs (Tensor): (B, C, H, W).
            token_share (Tensor): (rows, cols), the same in all samples, or (B, rows, cols).
            **data: Other arguments of :class:`MixRecord`.
        """
        batch = inputs.size(0)
        lam = token_share.mean(dim=(-2, -1))
        return MixRecord(
            self.draw_partner(batch), token_share.expand(batch, -1, -1), lam.expand(batch), **data
        )

    def unmixed(self, inputs: Tensor, **data) -> MixRecord:
        """The record of a batch whose labels are left alone."""
        batch = inputs.size(0)
        return MixRecord(
            torch.arange(batch), torch.ones(batch, *self.grid(inputs)), torch.ones(batch), **data
        )

    def grid(self, inputs: Tensor) -> tuple[int, int]:
        """Rows and columns of patches in images (B, C, H, W)."""
        height, width = inputs.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'Images of {height}x{width} pixels cannot be divided into patches of '
                f'patch_size={self.patch_size}; change one of them.'
            )
        return height // self.patch_size, width // self.patch_size

    def pixels(self, record: MixRecord) -> Tensor:
        """The part of each pixel that is kept, (B or 1, H, W)."""
        if record.pixel_share is not None:
            return record.pixel_share
        size = self.patch_size
        return record.token_share.repeat_interleave(size, dim=1).repeat_interleave(size, dim=2)

    def draw_partner(self, batch: int) -> Tensor:
        """(B,) index of the image mixed into each; may be itself."""
        if self.partner == 'reverse':
            return torch.arange(batch - 1, -1, -1)
        return torch.randperm(batch, generator=self.generator, device='cpu')

    def draw_lam(self, alpha: float) -> float:
        """A sample of Beta(alpha, alpha)."""
        concentration = torch.full((2,), alpha, dtype=torch.float64, device='cpu')
        return torch._sample_dirichlet(concentration, generator=self.generator)[0].item()

    def draw_uniform(self, low: float, high: float) -> float:
        """A number, evenly from [low, high)."""
        drawn = torch.rand((), generator=self.generator, device='cpu', dtype=torch.float64).item()
        return low + (high - low) * drawn

    def draw_index(self, end: int) -> int:
        """A whole number in [0, end)."""
        return torch.randint(end, (), generator=self.generator, device='cpu').item()

    def place_box(self, size: tuple[int, int], sides: Sequence[int]) -> Box:
        """A box centred anywhere in (rows, cols), and clipped: ``(yl, yu, xl, xu)``, half-open."""
        box = []
        for length, side in zip(size, sides):
            low = self.draw_index(length) - side // 2
            box += [max(low, 0), min(low + side, length)]
        return tuple(box)


def check_alpha(alpha: float) -> float:
    """alpha if it is a positive number, else ValueError."""
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or (not alpha > 0):
        raise ValueError(
            f'alpha={alpha!r} of Beta(alpha, alpha) must be '
            'a positive number; to mix less often give `probs`.'
        )
    return alpha


def mix_scores(scores: Tensor, record: MixRecord, share: Tensor) -> Tensor:
    """What each sample is trained on: ``share * own + (1 - share) * partner``.

    Args:
        scores (Tensor): (B, num_classes), each image's own.
        record (MixRecord): Tells the partners.
        share (Tensor): (B,), or (B, 2): the weights of own and partner, which need not sum to one.

    Returns:
        Tensor: (B, num_classes), float32.
    """
    scores = scores.float()
    share = share.to(scores, non_blocking=True)
    own, partner = share.unbind(1) if share.ndim == 2 else (share, 1 - share)
    index = record.partner.to(scores.device, non_blocking=True)
    return own[:, None] * scores + partner[:, None] * scores[index]
