"""Mixes a batch and hands on the record of it."""

from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample

from mmtlalign.registry import MODELS

from ..batch_augments import RandomMix


@MODELS.register_module()
class TLAlignDataPreprocessor(ClsDataPreprocessor):
    """The host's preprocessor, with mixing that leaves a record.

    In training it returns, beside mixed ``inputs`` and ``data_samples`` with each image's own label
    as ``gt_score``, the batch's :class:`MixRecord` as ``mix``. A batch drawn by :class:`MixToken`
    keeps its images; the record says so. mmengine hands that to the model's
    ``forward`` as a keyword; a classifier that takes it says so by setting ``record_is_taken``.

    Validation and test are the host's own.

    Args:
        num_classes (int): Number of classes.
        mean (Sequence[Number]): Pixel mean per channel.
        std (Sequence[Number]): Pixel standard deviation per channel.
        batch_augments (dict, optional): ``augments`` and ``probs`` of
            :class:`RandomMix`. Defaults to None, which mixes nothing.
        **kwargs: Other arguments of mmpretrain's ``ClsDataPreprocessor``.

    Raises:
        TypeError: In training, in a classifier that would not take the record.
        ValueError: Without ``num_classes`` or ``mean``; in training, samples
            without a ``gt_score`` whose labels are none or several.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        mean=None,
        std=None,
        batch_augments: dict | None = None,
        **kwargs,
    ) -> None:
        for name, value in (('num_classes', num_classes), ('mean', mean)):
            if value is None:
                raise ValueError(
                    f'TLAlignDataPreprocessor needs `{name}`. Write `data_preprocessor = '
                    'dict(num_classes=..., mean=..., std=...)` at the top level of the config, '
                    'without `type`, and nothing of it inside `model` (where it would replace '
                    'the top-level one).'
                )
        if batch_augments and not kwargs.get('to_onehot', True):
            raise ValueError('to_onehot=False leaves no scores that could be mixed; leave it out.')
        super().__init__(
            mean=mean,
            std=std,
            num_classes=num_classes,
            **{'to_onehot': bool(batch_augments), **kwargs},
        )
        if batch_augments:
            self.batch_augments = RandomMix(**batch_augments)
        self.record_is_taken = False

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack and normalise a batch; in training, mix it, with its record as ``mix``."""
        mixes = training and self.batch_augments is not None
        if mixes:
            if not self.record_is_taken:
                raise TypeError(
                    f'{type(self).__name__} mixes images and leaves the labels to a classifier '
                    "that takes its record; set the model's type to "
                    "'mmtlalign.TLAlignClassifier', or data_preprocessor.type to "
                    "'ClsDataPreprocessor', which mixes labels by area."
                )
            _require_single_label(data.get('data_samples'))
        # For the host `training` only means mixing, which loses the record.
        batch = super().forward(data, training=False)
        if mixes:
            self.mix(batch)
        return batch

    def mix(self, batch: dict) -> None:
        """Mix the images of a batch, unless tokens are to be; put the record beside them."""
        batch['mix'] = record = self.batch_augments.draw(batch['inputs'])
        if not record.in_backbone:
            batch['inputs'] = self.batch_augments.apply(batch['inputs'], record)


def _require_single_label(data_samples: list[DataSample] | None) -> None:
    for i, sample in enumerate(data_samples or [None]):
        if not isinstance(sample, DataSample):
            raise ValueError(
                f'Sample {i} is {type(sample).__name__}; mixing needs a '
                'DataSample with one label per image.'
            )
        if 'gt_score' in sample:
            continue
        labels = sample.gt_label.tolist() if 'gt_label' in sample else []
        if len(labels) != 1:
            raise ValueError(
                f'Sample {i} has labels {labels}; mixing needs exactly one '
                'per image, or a `gt_score`.'
            )
