import numpy as np

from mmtlalign.registry import DATASETS

from .image_folders import CustomDataset


@DATASETS.register_module()
class ImageFolderSubset(CustomDataset):
    """Class-balanced, seeded part of a labelled folder of images.

    The host's ``indices`` takes the first samples, and those of a folder are
    sorted by class. This one draws equally many samples of every class,
    always the same ones for the same files, ``num_samples`` and ``seed``.

    Args:
        num_samples (int): Images to keep in total, a multiple of the number of classes.
        seed (int): Seed of the draw, independent of the run's own seed. Defaults to 0.
        **kwargs: Arguments of :class:`CustomDataset`.

    Raises:
        ValueError: If ``num_samples`` is not a positive multiple of the
            number of classes, or a class has too few images.
    """

    def __init__(self, *, num_samples: int, seed: int = 0, **kwargs) -> None:
        self.num_samples = num_samples
        self.seed = seed
        super().__init__(**kwargs)

    def filter_data(self) -> list[dict]:
        """Keep the drawn samples, in their original order."""
        labels = np.array([info['gt_label'] for info in self.data_list])
        num_classes = len(self.CLASSES)
        per_class, rest = divmod(self.num_samples, num_classes)
        if per_class < 1 or rest:
            raise ValueError(
                f'num_samples={self.num_samples} must be a positive multiple of the {num_classes} '
                f'classes in {self.img_prefix!r}'
            )
        counts = np.bincount(labels, minlength=num_classes)
        if counts.min() < per_class:
            raise ValueError(
                f'num_samples={self.num_samples} needs {per_class} images of each class, but '
                f'{self.CLASSES[counts.argmin()]!r} in {self.img_prefix!r} has {counts.min()}; '
                'lower num_samples'
            )
        rng = np.random.default_rng(self.seed)
        kept = [
            rng.choice(np.flatnonzero(labels == label), per_class, replace=False)
            for label in range(num_classes)
        ]
        return [self.data_list[i] for i in np.sort(np.concatenate(kept))]
