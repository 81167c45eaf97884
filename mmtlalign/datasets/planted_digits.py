"""Digits planted on clutter: pictures whose truth is known."""

import math

import mmcv
import numpy as np
from mmpretrain.datasets import BaseDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mmtlalign.registry import DATASETS

from .object_mask import ObjectMask


@DATASETS.register_module()
class PlantedDigits(BaseDataset):
    """Handwritten digits at random places on clutter, with their masks.

    Objects are smaller than images, so that the area of a part says little
    about how much of the object it shows; ``object_mask`` says it. Images are
    made in memory from scikit-learn's 1,797 digits, uint8 and (size, size, 3),
    and depend on the arguments alone, never on the seed of a run. No digit is
    in two splits: 1,000 are for training, 397 to validate and 400 to test on.

    A sample has ``img``, ``gt_label``, ``object_mask`` (:class:`ObjectMask`)
    and, with several objects, ``gt_score``: 1 for each class that is there.

    Args:
        split (str): 'train', 'val' or 'test'.
        num_images (int): Up to as many as the split has digits, each shows
            another; more repeat the digits elsewhere, on other clutter.
        object_size (int): Edge of an object in pixels. Defaults to 16.
        num_objects (int): In each image; none hides another, and no two are
            of one class. Defaults to 1.
        clutter (float): Strength of the background, in [0, 1]: at 1 it
            reaches 90 % of the ink's brightness. Defaults to 1.
        image_size (int): Edge of an image in pixels. Defaults to 32.
        seed (int): Of the splits, places and clutter. Defaults to 0.
        **kwargs: Arguments of :class:`mmpretrain.datasets.BaseDataset`
            other than those that name files.

    Raises:
        ValueError: An unknown split, or a number out of range.
    """

    METAINFO = dict(classes=tuple('0123456789'))
    SPLITS = dict(train=1000, val=397, test=400)

    def __init__(
        self,
        split: str,
        num_images: int,
        object_size: int = 16,
        num_objects: int = 1,
        clutter: float = 1.0,
        image_size: int = 32,
        seed: int = 0,
        **kwargs,
    ) -> None:
        if split not in self.SPLITS:
            raise ValueError(
                f'split={split!r} is unknown: PlantedDigits has the splits {tuple(self.SPLITS)}.'
            )
        if num_images < 1:
            raise ValueError(f'num_images={num_images} must be at least 1.')
        if not 1 <= num_objects <= 10:
            raise ValueError(f'num_objects={num_objects} must be from 1 to 10: one of each class.')
        if not 0 <= clutter <= 1:
            raise ValueError(f'clutter={clutter} must be from 0 to 1.')
        self.cells = math.ceil(math.sqrt(num_objects))
        if not 1 <= object_size <= image_size // self.cells:
            raise ValueError(
                f'object_size={object_size} must be from 1 to {image_size // self.cells}: '
                f'{num_objects} of them must fit into an image of {image_size} pixels.'
            )
        self.split, self.num_images, self.seed = split, num_images, seed
        self.num_objects, self.object_size = num_objects, object_size
        self.clutter, self.image_size = clutter, image_size
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Images, masks and labels of the split."""
        inks, labels = self._digits()
        rng = np.random.default_rng([self.seed, list(self.SPLITS).index(self.split)])
        first = np.resize(rng.permutation(len(labels)), self.num_images)
        return [self._plant(inks, labels, digit, rng) for digit in first]

    def _digits(self) -> tuple[np.ndarray, np.ndarray]:
        """Ink (N, size, size) in [0, 1] and labels (N,) of the split."""
        images, labels = load_digits(return_X_y=True)
        indices = np.arange(len(labels))
        parts = {}
        for name in ('val', 'test'):
            options = dict(random_state=self.seed, stratify=labels[indices])
            indices, parts[name] = train_test_split(indices, test_size=self.SPLITS[name], **options)
        chosen = parts.get(self.split, indices)
        size = (self.object_size, self.object_size)
        inks = [mmcv.imresize(image.reshape(8, 8) / 16, size) for image in images[chosen]]
        return np.stack(inks), labels[chosen]

    def _plant(
        self, inks: np.ndarray, labels: np.ndarray, digit: int, rng: np.random.Generator
    ) -> dict:
        """One image, beginning with the ink of the object it must show."""
        chosen = [digit]
        while len(chosen) < self.num_objects:
            other = rng.integers(len(labels))
            if labels[other] not in labels[chosen]:
                chosen.append(other)
        ink = np.zeros((self.image_size, self.image_size))
        for place, index in zip(self._places(rng), chosen):
            ink[place] = inks[index]
        grey = np.maximum(self._background(rng) * (1 - ink), ink)
        sample = dict(
            img=np.repeat(_to_bytes(grey)[..., None], 3, axis=2),
            object_mask=ObjectMask(_to_bytes(ink)),
        )
        if self.num_objects == 1:
            return dict(sample, gt_label=int(labels[digit]))
        score = np.zeros(len(self.METAINFO['classes']), np.float32)
        score[labels[chosen]] = 1
        return dict(sample, gt_label=sorted(labels[chosen].tolist()), gt_score=score)

    def _places(self, rng: np.random.Generator):
        """A place for every object, each in another cell of the image."""
        cell = self.image_size // self.cells
        chosen = rng.permutation(self.cells**2)[: self.num_objects]
        for row, col in zip(*divmod(chosen, self.cells)):
            free = cell - self.object_size + 1
            y, x = cell * np.array([row, col]) + rng.integers(free, size=2)
            yield (slice(y, y + self.object_size), slice(x, x + self.object_size))

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """Blobs an eighth of the image wide, and grain."""
        size = (self.image_size, self.image_size)
        blobs = mmcv.imresize(rng.random((8, 8)), size)
        return self.clutter * (0.6 * blobs + 0.3 * rng.random(size))

    def extra_repr(self) -> list[str]:
        """What was planted, instead of the file names the host would print."""
        return [f'Split: \t{self.split}', f'Objects: \t{self.num_objects} of {self.object_size} px']


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """[0, 1] as uint8."""
    return np.rint(255 * values).astype(np.uint8)
