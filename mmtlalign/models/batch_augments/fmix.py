"""FMix (arXiv 2002.12047): masks of low frequencies."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix, check_alpha
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class FMix(BatchMix):
    """Keep the pixels where an image of low-frequency noise is brightest.

    ``lam ~ Beta(alpha, alpha)`` is the part that is kept, up to one pixel.
    One mask per batch, in pixels: patches may be split.

    Args:
        alpha (float): Of Beta(alpha, alpha). Defaults to 1.
        decay_power (float): Amplitudes fall as ``1 / frequency **
            decay_power``. Defaults to 3, as published.
        partner (str): As in :class:`BatchMix`. Defaults to 'random', as published.
        **kwargs: ``patch_size`` of :class:`BatchMix`.
    """

    def __init__(
        self, alpha: float = 1.0, decay_power: float = 3.0, partner: str = 'random', **kwargs
    ) -> None:
        super().__init__(partner=partner, **kwargs)
        self.alpha = check_alpha(alpha)
        self.decay_power = decay_power

    def draw(self, inputs: Tensor) -> MixRecord:
        self.grid(inputs)  # refuses sizes that patches do not divide
        size = tuple(inputs.shape[-2:])
        kept = self.draw_lam(self.alpha) * math.prod(size)
        kept = (math.floor, math.ceil)[self.draw_index(2)](kept)
        brightest = self._noise(size).flatten().argsort(descending=True)
        mask = torch.zeros(math.prod(size), device='cpu')
        mask[brightest[:kept]] = 1
        mask = mask.view(1, *size)
        return self.record(inputs, F.avg_pool2d(mask, self.patch_size), pixel_share=mask)

    def _noise(self, size: tuple[int, int]) -> Tensor:
        """An image (rows, cols) of decaying random frequencies."""
        rows, cols = size
        frequency = torch.hypot(
            torch.fft.fftfreq(rows, device='cpu')[:, None], torch.fft.rfftfreq(cols, device='cpu')
        )
        scale = frequency.clamp(min=1 / max(size)) ** -self.decay_power
        real, imaginary = (
            torch.randn(2, *scale.shape, generator=self.generator, device='cpu') * scale
        )
        return torch.fft.irfft2(torch.complex(real, imaginary), s=size)
