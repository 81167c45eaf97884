"""The token labels of one image on its way through the pipeline."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import grid_sample

SCORE_MODES = ('probs', 'logits')


@dataclass(frozen=True)
class TokenLabels:
    """A top-k map of class scores, and the part of it an image shows.

    Cell (row, col) of the map reaches from (row, col) to (row + 1, col + 1)
    in cells. Nothing is modified in place.

    Attributes:
        ids (np.ndarray): (rows, cols, k), integers: classes of each cell.
        scores (np.ndarray): (rows, cols, k), float16: their scores.
        box (np.ndarray): (4,), float32: x1, y1, x2, y2 of the image in cells
            of the map; it may reach beyond the map.
        image_size (tuple[int]): Rows and columns of the image in pixels.
        num_classes (int): Number of classes.
        score_mode (str): 'probs': what the scores lack to 1 belongs evenly to
            the other classes. 'logits': the others have logit 0.
        flip (bool): Whether the last chance to mirror it was taken.
    """

    ids: np.ndarray
    scores: np.ndarray
    box: np.ndarray
    image_size: tuple[int, int]
    num_classes: int
    score_mode: str = 'probs'
    flip: bool = False

    def flipped(self, direction: str | None) -> 'TokenLabels':
        """After the image was mirrored, or could have been.

        Args:
            direction (str, optional): 'horizontal', 'vertical', 'diagonal',
                or None if it was left as it is.
        """
        rows, cols = self.ids.shape[:2]
        x1, y1, x2, y2 = self.box
        axes = []
        if direction in ('horizontal', 'diagonal'):
            axes.append(1)
            x1, x2 = cols - x2, cols - x1
        if direction in ('vertical', 'diagonal'):
            axes.append(0)
            y1, y2 = rows - y2, rows - y1
        return replace(
            self,
            ids=np.flip(self.ids, axes),
            scores=np.flip(self.scores, axes),
            box=np.array([x1, y1, x2, y2], np.float32),
            flip=direction is not None,
        )

    def cropped(
        self, top: int, left: int, height: int, width: int, image_size: tuple[int, int]
    ) -> 'TokenLabels':
        """After a part of the image was cut out and resized.

        Args:
            top, left, height, width (int): Of the part, in pixels.
            image_size (tuple[int]): Rows and columns it was resized to.
        """
        start, scale = self.box[:2], (self.box[2:] - self.box[:2]) / self.image_size[::-1]
        corners = np.array([[left, top], [left + width, top + height]])
        box = (start + corners * scale).astype(np.float32).reshape(4)
        return replace(self, box=box, image_size=image_size)

    def warped(self, matrix: np.ndarray) -> 'TokenLabels':
        """After an affine map of the image that keeps its size.

        Scores are interpolated between cells, and of each cell the top k are
        kept. Where the image now shows padding, they are even.

        Args:
            matrix (np.ndarray): (2, 3), as for ``cv2.warpAffine``: where a pixel (x, y, 1) goes to.
        """
        rows, cols, k = self.ids.shape
        places, seen = self._sources(matrix)
        classes, dense, others = self._expanded()
        maps = np.column_stack((others, dense)).T.reshape(1, -1, rows, cols)
        moved = grid_sample(
            torch.from_numpy(np.ascontiguousarray(maps)),
            torch.from_numpy(places)[None, None],
            padding_mode='border',
            align_corners=False,
        )
        moved = moved[0, :, 0].numpy().T * seen[:, None]
        flat = 1 / self.num_classes if self.score_mode == 'probs' else 0.0
        others, dense = moved[:, 0] + (1 - seen) * flat, moved[:, 1:]
        top = np.argpartition(-dense, k - 1, axis=1)[:, :k]
        scores = np.take_along_axis(dense, top, axis=1) + others[:, None]
        return replace(
            self,
            ids=classes[top].reshape(self.ids.shape),
            scores=scores.astype(np.float16).reshape(self.ids.shape),
        )

    def _sources(self, matrix):
        """Where the content of each cell comes from: x and y from -1 to 1 over the map, (N, 2); and
        1 or, from outside the image, 0, (N,)."""
        rows, cols = self.ids.shape[:2]
        origin, scale = self.box[:2], self.box[2:] - self.box[:2]
        size = np.array(self.image_size[::-1])
        middles = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), -1)
        pixels = (middles.reshape(-1, 2) + 0.5 - origin) / scale * size - 0.5
        matrix = np.asarray(matrix, np.float64)
        sources = (pixels - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        seen = ((sources > -0.5) & (sources < size - 0.5)).all(1)
        places = (sources + 0.5) / size * scale + origin
        return 2 * places / (cols, rows) - 1, seen.astype(np.float64)

    def _expanded(self):
        """Classes that occur in the map (C,), their scores in every cell less that of the others
        (N, C), and that of the others (N,)."""
        k = self.ids.shape[-1]
        classes, columns = np.unique(self.ids, return_inverse=True)
        scores = self.scores.reshape(-1, k).astype(np.float64)
        others = np.zeros(len(scores))
        if self.score_mode == 'probs' and k < self.num_classes:
            others = (1 - scores.sum(1)).clip(0) / (self.num_classes - k)
        dense = np.zeros((len(scores), len(classes)))
        np.put_along_axis(dense, columns.reshape(-1, k), scores - others[:, None], axis=1)
        return classes, dense, others
