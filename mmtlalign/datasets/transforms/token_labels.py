"""Transforms that carry token labels along with the image.

Each is the host's of the same name: the same arguments, random draws and
images. Without token labels in the results they are the host's altogether.
"""
from typing import List, Optional, Tuple, Union

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import RandomFlip as HostRandomFlip
from mmpretrain.datasets.transforms import (
    RandomResizedCrop as HostRandomResizedCrop,
)
from mmpretrain.datasets.transforms import auto_augment

from mmtlalign.registry import TRANSFORMS

from ..token_label_store import TokenLabelStore

KEY = 'token_labels'


@TRANSFORMS.register_module()
class LoadTokenLabels(BaseTransform):
    """Read the map of an image from a :class:`TokenLabelStore`.

    Comes right after the image was loaded. From here on, only transforms of
    this module may move the image; the data preprocessor checks that.

    Required keys: ``img``, ``sample_idx`` and, if it comes from a file,
    ``img_path``. Added: ``token_labels`` (:class:`TokenLabels`), which
    ``PackInputs`` hands on with ``algorithm_keys=('token_labels', )``.

    Args:
        store (str): Folder of the store.
    """

    def __init__(self, store: str) -> None:
        self.path = store
        self._store: Optional[TokenLabelStore] = None

    @property
    def store(self) -> TokenLabelStore:
        """TokenLabelStore: Opened when it is first needed."""
        if self._store is None:
            self._store = TokenLabelStore(self.path)
        return self._store

    def transform(self, results: dict) -> dict:
        results[KEY] = self.store.read(
            results['sample_idx'], results.get('img_path'),
            results['img'].shape[:2])
        return results

    def __getstate__(self) -> dict:
        """Workers open the store for themselves."""
        return {**self.__dict__, '_store': None}

    def __repr__(self) -> str:
        return f'{type(self).__name__}(store={self.path!r})'


@TRANSFORMS.register_module()
class RandomFlip(HostRandomFlip):
    """The host's ``RandomFlip``, with token labels."""

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        if KEY in results:
            results[KEY] = results[KEY].flipped(results['flip_direction'])
        return results


@TRANSFORMS.register_module()
class RandomResizedCrop(HostRandomResizedCrop):
    """The host's ``RandomResizedCrop``, with token labels."""

    def rand_crop_params(self, img: np.ndarray) -> Tuple[int, int, int, int]:
        """Draw top, left, height and width in pixels, and note them."""
        self.part = super().rand_crop_params(img)
        return self.part

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        if KEY in results:
            results[KEY] = results[KEY].cropped(
                *self.part, results['img'].shape[:2])
        return results


class _Affine:
    """Mixin: a host's operation that moves pixels by an affine map."""

    def random_negative(self, value: float) -> float:
        """The last of the host's draws: note how far the image moves."""
        self.amount = super().random_negative(value)
        return self.amount

    def transform(self, results: dict) -> Optional[dict]:
        self.amount = None
        results = super().transform(results)
        if KEY in results and self.amount is not None:
            matrix = self._matrix(self.amount, *results['img'].shape[:2])
            results[KEY] = results[KEY].warped(matrix)
        return results

    def _matrix(self, amount: float, rows: int, cols: int) -> np.ndarray:
        """(2, 3): where the host moves a pixel (x, y, 1) to."""
        raise NotImplementedError


@TRANSFORMS.register_module()
class Rotate(_Affine, auto_augment.Rotate):
    """The host's ``Rotate``, with token labels."""

    def _matrix(self, amount: float, rows: int, cols: int) -> np.ndarray:
        center = self.center or ((cols - 1) * .5, (rows - 1) * .5)
        return cv2.getRotationMatrix2D(center, -amount, self.scale)


@TRANSFORMS.register_module()
class Shear(_Affine, auto_augment.Shear):
    """The host's ``Shear``, with token labels."""

    def _matrix(self, amount: float, rows: int, cols: int) -> np.ndarray:
        if self.direction == 'horizontal':
            return np.array([[1, amount, 0], [0, 1, 0]])
        return np.array([[1, 0, 0], [amount, 1, 0]])


@TRANSFORMS.register_module()
class Translate(_Affine, auto_augment.Translate):
    """The host's ``Translate``, with token labels."""

    def _matrix(self, amount: float, rows: int, cols: int) -> np.ndarray:
        if self.direction == 'horizontal':
            return np.array([[1, 0, amount * cols], [0, 1, 0]])
        return np.array([[1, 0, 0], [0, 1, amount * rows]])


@TRANSFORMS.register_module()
class RandAugment(auto_augment.RandAugment):
    """The host's ``RandAugment``, whose geometric operations carry labels.

    Args:
        policies (str | list[dict]): As in the host. ``Rotate``, ``Shear`` and
            ``Translate`` stand for those of this module.
        *args: Other arguments of the host's.
        **kwargs: Other arguments of the host's.
    """

    GEOMETRIC = ('Rotate', 'Shear', 'Translate')

    def __init__(self, policies: Union[str, List[dict]], *args,
                 **kwargs) -> None:
        if isinstance(policies, str):
            policies = auto_augment.RANDAUG_POLICIES.get(policies, policies)
        if not isinstance(policies, str):
            policies = [{**policy, 'type': self._carrying(policy['type'])}
                        for policy in policies]
        super().__init__(policies, *args, **kwargs)

    @classmethod
    def _carrying(cls, kind: str) -> str:
        return f'mmtlalign.{kind}' if kind in cls.GEOMETRIC else kind
