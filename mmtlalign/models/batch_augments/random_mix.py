"""One of several mixing methods per batch, by probability, or none."""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from mmtlalign.registry import BATCH_AUGMENTS

from .batch_mix import BatchMix
from .mix_record import MixRecord


@BATCH_AUGMENTS.register_module()
class RandomMix(BatchMix):
    """Draw the method of each batch.

    Stands in for mmpretrain's ``RandomBatchAugment``, which returns no record
    and draws from numpy's global generator, alike on every rank.

    Args:
        augments (list[dict | BatchMix] | dict): Methods of this registry,
            all with the same ``patch_size``.
        probs (list[float] | float, optional): Their probabilities; what is
            missing to 1 leaves a batch unmixed. Defaults to equal ones.

    Raises:
        TypeError: A method without ``draw`` and ``apply``.
        ValueError: Probabilities or patch sizes that do not fit.
    """

    def __init__(
        self,
        augments: list[dict | BatchMix] | dict | BatchMix,
        probs: Sequence[float] | float | None = None,
    ) -> None:
        if not isinstance(augments, (list, tuple)):
            augments = [augments]
        self.augments = [BATCH_AUGMENTS.build(a) if isinstance(a, dict) else a for a in augments]
        if not self.augments:
            raise ValueError(
                'augments is empty; name a mixing method, or leave out train_cfg to mix nothing.'
            )
        self.probs = _checked_probs(probs, len(self.augments))
        super().__init__(patch_size=_common_patch_size(self.augments))
        self.no_mix = NoMix(patch_size=self.patch_size)
        self.seed(self.generator.initial_seed())

    def seed(self, seed: int) -> None:
        """Restart the draws; every method gets a stream of its own."""
        super().seed(seed)
        for augment in self.augments:
            augment.seed(self.draw_index(2**63 - 1))

    def draw(self, inputs: Tensor) -> MixRecord:
        weights = torch.tensor([*self.probs, 1 - sum(self.probs)], device='cpu')
        choice = torch.multinomial(weights.clamp(min=0), 1, generator=self.generator).item()
        record = [*self.augments, self.no_mix][choice].draw(inputs)
        record.choice = (choice, *record.choice)
        return record

    def apply(self, inputs: Tensor, record: MixRecord) -> Tensor:
        record, choice = copy(record), record.choice[0]
        record.choice = record.choice[1:]
        return [*self.augments, self.no_mix][choice].apply(inputs, record)


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


def _checked_probs(probs, count: int) -> list[float]:
    if probs is None:
        return [1 / count] * count
    probs = [probs] if isinstance(probs, (int, float)) else list(probs)
    if len(probs) != count:
        raise ValueError(f'{count} augments need {count} probs, but got {len(probs)}: {probs}.')
    if min(probs) < 0 or sum(probs) > 1 + 1e-6:
        raise ValueError(
            f'probs={probs} must not be negative and sum to at most 1; they sum to {sum(probs)}.'
        )
    return probs


def _common_patch_size(augments: list[BatchMix]) -> int:
    for augment in augments:
        if not isinstance(augment, BatchMix):
            raise TypeError(
                f'{type(augment).__name__} leaves no record of what it mixed; use '
                'mmtlalign.TokenCutMix, mmtlalign.CutMix or mmtlalign.Mixup.'
            )
    sizes = [augment.patch_size for augment in augments]
    if len(set(sizes)) != 1:
        raise ValueError(
            f'All augments need the same patch_size, that of the backbone; got {sizes}.'
        )
    return sizes[0]
