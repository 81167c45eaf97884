"""The token labels of one image on its way through the pipeline."""

from dataclasses import dataclass, replace

import numpy as np

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
        x, y, seen = self._sources(matrix)
        cells, weights = _neighbours(x, y, *self.ids.shape[:2])
        weights = weights * seen[:, None]
        classes, dense, others = self._expanded()
        flat = 1 / self.num_classes if self.score_mode == 'probs' else 0.0
        others = (weights * others[cells]).sum(1) + (1 - seen) * flat
        dense = np.einsum('nj,njc->nc', weights, dense[cells])
        k = self.ids.shape[-1]
        top = np.argpartition(-dense, k - 1, axis=1)[:, :k]
        scores = np.take_along_axis(dense, top, axis=1) + others[:, None]
        return replace(
            self,
            ids=classes[top].reshape(self.ids.shape),
            scores=scores.astype(np.float16).reshape(self.ids.shape),
        )

    def _sources(self, matrix):
        """Where the content of each cell comes from: x and y on the map, where 0 is the middle of
        the first cell, and 1 or, from outside the image, 0; each (N,)."""
        rows, cols = self.ids.shape[:2]
        origin, scale = self.box[:2], self.box[2:] - self.box[:2]
        size = np.array(self.image_size[::-1])
        middles = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), -1)
        pixels = (middles.reshape(-1, 2) + 0.5 - origin) / scale * size - 0.5
        matrix = np.asarray(matrix, np.float64)
        sources = (pixels - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        seen = ((sources > -0.5) & (sources < size - 0.5)).all(1)
        x, y = ((sources + 0.5) / size * scale + origin - 0.5).T
        return x, y, seen.astype(np.float64)

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


def _neighbours(x, y, rows: int, cols: int):
    """Cells around positions and their bilinear weights, both (N, 4)."""
    x, y = x.clip(0, cols - 1), y.clip(0, rows - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = (left + 1).clip(max=cols - 1), (top + 1).clip(max=rows - 1)
    u, v = x - left, y - top
    cells = [top * cols + left, top * cols + right, bottom * cols + left, bottom * cols + right]
    weights = [(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v]
    return np.stack(cells, 1), np.stack(weights, 1)
