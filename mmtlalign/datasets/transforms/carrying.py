"""Transforms that carry along what lies on the image: token labels, masks.

Each is the host's of the same name: the same arguments, random draws and images. Where nothing lies
on the image they are the host's altogether. What does has the methods ``flipped``, ``cropped`` and
``warped``, see :class:`TokenLabels` and :class:`ObjectMask`.
"""

import cv2
import numpy as np
from mmcv.transforms import CenterCrop as HostCenterCrop
from mmcv.transforms import RandomFlip as HostRandomFlip
from mmcv.transforms import Resize as HostResize
from mmpretrain.datasets.transforms import RandomCrop as HostRandomCrop
from mmpretrain.datasets.transforms import RandomResizedCrop as HostRandomResizedCrop
from mmpretrain.datasets.transforms import ResizeEdge as HostResizeEdge
from mmpretrain.datasets.transforms import auto_augment

from mmtlalign.registry import TRANSFORMS

KEYS = ('token_labels', 'object_mask')


def carry(results: dict, move: str, *args) -> dict:
    """Move what lies on the image as the image was moved.

    Args:
        results (dict): Of the pipeline; changed in place.
        move (str): 'flipped', 'cropped' or 'warped'.
        *args: Of that method.
    """
    for key in KEYS:
        if key in results:
            results[key] = getattr(results[key], move)(*args)
    return results


@TRANSFORMS.register_module()
class RandomFlip(HostRandomFlip):
    """The host's ``RandomFlip``, with what lies on the image."""

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        return carry(results, 'flipped', results['flip_direction'])


class _Resize:
    """Mixin: a host's transform that resizes whole images."""

    def _resize_img(self, results: dict) -> None:
        size = results['img'].shape[:2]
        super()._resize_img(results)
        carry(results, 'cropped', 0, 0, *size, results['img'].shape[:2])


@TRANSFORMS.register_module()
class Resize(_Resize, HostResize):
    """The host's ``Resize``, with what lies on the image."""


@TRANSFORMS.register_module()
class ResizeEdge(_Resize, HostResizeEdge):
    """The host's ``ResizeEdge``, with what lies on the image."""


@TRANSFORMS.register_module()
class CenterCrop(HostCenterCrop):
    """The host's ``CenterCrop``, with what lies on the image.

    Args:
        *args: As in the host.
        **kwargs: As in the host, other than a ``pad_cfg`` that pads with the
            image itself, which would show objects twice.

    Raises:
        ValueError: For that.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        mode = self.pad_cfg.get('padding_mode', 'constant')
        if self.auto_pad and mode != 'constant':
            raise ValueError(
                f'padding_mode={mode!r} in pad_cfg: what lies on an image can follow padding with '
                'a constant only.'
            )

    def _crop_img(self, results: dict, bboxes: np.ndarray) -> None:
        super()._crop_img(results, bboxes)
        left, top = bboxes[:2].tolist()
        size = results['img'].shape[:2]
        carry(results, 'cropped', top, left, *size, size)


class _Crop:
    """Mixin: a host's crop at a random place."""

    def rand_crop_params(self, img: np.ndarray) -> tuple[int, int, int, int]:
        """Draw top, left, height and width in pixels, and note them."""
        self.part = super().rand_crop_params(img)
        return self.part


@TRANSFORMS.register_module()
class RandomCrop(_Crop, HostRandomCrop):
    """The host's ``RandomCrop``, with what lies on the image.

    Args:
        *args: As in the host.
        **kwargs: As in the host, other than ``pad_if_needed`` and modes that
            pad with the image itself, which would show objects twice.

    Raises:
        ValueError: For those.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.pad_if_needed or self.padding_mode != 'constant':
            raise ValueError(
                f'pad_if_needed={self.pad_if_needed}, padding_mode={self.padding_mode!r}: what '
                'lies on an image can follow `padding` with a constant only.'
            )

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        top, left, height, width = self.part
        padding = self.padding or 0  # at all sides, or at the left, at the top, and so on
        pad_left, pad_top = (padding, padding) if isinstance(padding, int) else padding[:2]
        place = top - pad_top, left - pad_left
        return carry(results, 'cropped', *place, height, width, results['img'].shape[:2])


@TRANSFORMS.register_module()
class RandomResizedCrop(_Crop, HostRandomResizedCrop):
    """The host's ``RandomResizedCrop``, with what lies on the image."""

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        return carry(results, 'cropped', *self.part, results['img'].shape[:2])


class _Affine:
    """Mixin: a host's operation that moves pixels by an affine map.

    Its ``_matrix``, (2, 3), says where the host moves a pixel (x, y, 1) to.
    """

    def random_negative(self, value: float) -> float:
        """The last of the host's draws: note how far the image moves."""
        self.amount = super().random_negative(value)
        return self.amount

    def transform(self, results: dict) -> dict | None:
        self.amount = None
        results = super().transform(results)
        if self.amount is not None:
            matrix = self._matrix(self.amount, *results['img'].shape[:2])
            carry(results, 'warped', matrix)
        return results


@TRANSFORMS.register_module()
class Rotate(_Affine, auto_augment.Rotate):
    """The host's ``Rotate``, with what lies on the image."""

    def _matrix(self, amount: float, rows: int, cols: int) -> np.ndarray:
        center = self.center or ((cols - 1) * 0.5, (rows - 1) * 0.5)
        return cv2.getRotationMatrix2D(center, -amount, self.scale)


@TRANSFORMS.register_module()
class Shear(_Affine, auto_augment.Shear):
    """The host's ``Shear``, with what lies on the image."""

    def _matrix(self, amount: float, rows: int, cols: int) -> np.ndarray:
        if self.direction == 'horizontal':
            return np.array([[1, amount, 0], [0, 1, 0]])
        return np.array([[1, 0, 0], [amount, 1, 0]])


@TRANSFORMS.register_module()
class Translate(_Affine, auto_augment.Translate):
    """The host's ``Translate``, with what lies on the image."""

    def _matrix(self, amount: float, rows: int, cols: int) -> np.ndarray:
        if self.direction == 'horizontal':
            return np.array([[1, 0, amount * cols], [0, 1, 0]])
        return np.array([[1, 0, 0], [0, 1, amount * rows]])


@TRANSFORMS.register_module()
class RandAugment(auto_augment.RandAugment):
    """The host's ``RandAugment``, whose geometric operations carry along.

    Args:
        policies (str | list[dict]): As in the host. ``Rotate``, ``Shear`` and
            ``Translate`` stand for those of this module.
        *args: Other arguments of the host's.
        **kwargs: Other arguments of the host's.
    """

    GEOMETRIC = ('Rotate', 'Shear', 'Translate')

    def __init__(self, policies: str | list[dict], *args, **kwargs) -> None:
        if isinstance(policies, str):
            policies = auto_augment.RANDAUG_POLICIES.get(policies, policies)
        if not isinstance(policies, str):
            own = {kind: f'mmtlalign.{kind}' for kind in self.GEOMETRIC}
            policies = [
                {**policy, 'type': own.get(policy['type'], policy['type'])} for policy in policies
            ]
        super().__init__(policies, *args, **kwargs)
