"""Which pixels of one image show its object, on their way through the pipeline."""

from dataclasses import dataclass, replace

import cv2
import mmcv
import numpy as np


@dataclass(frozen=True)
class ObjectMask:
    """How much of every pixel is object; nothing is modified in place.

    Attributes:
        pixels (np.ndarray): (H, W), uint8: 0 is background, 255 all object.
        flip (bool): Whether the last chance to mirror it was taken.
    """

    pixels: np.ndarray
    flip: bool = False

    @property
    def image_size(self) -> tuple[int, int]:
        """tuple[int]: Rows and columns of the image."""
        return self.pixels.shape

    def flipped(self, direction: str | None) -> 'ObjectMask':
        """After the image was mirrored, or could have been; see :meth:`TokenLabels.flipped`."""
        if direction is None:
            return replace(self, flip=False)
        return ObjectMask(np.ascontiguousarray(mmcv.imflip(self.pixels, direction)), True)

    def cropped(
        self, top: int, left: int, height: int, width: int, image_size: tuple[int, int]
    ) -> 'ObjectMask':
        """After a part of the image was cut out and resized; see :meth:`TokenLabels.cropped`.

        It may reach beyond the image, where there is no object.
        """
        part = np.zeros((height, width), np.uint8)
        rows, cols = self.pixels.shape
        y1, y2 = max(top, 0), min(top + height, rows)
        x1, x2 = max(left, 0), min(left + width, cols)
        part[y1 - top : y2 - top, x1 - left : x2 - left] = self.pixels[y1:y2, x1:x2]
        if part.shape != tuple(image_size):
            part = mmcv.imresize(part, tuple(image_size)[::-1])
        return replace(self, pixels=part)

    def warped(self, matrix: np.ndarray) -> 'ObjectMask':
        """After an affine map of the image; see :meth:`TokenLabels.warped`."""
        moved = cv2.warpAffine(self.pixels, np.asarray(matrix, np.float64), self.pixels.shape[::-1])
        return replace(self, pixels=moved)
