"""Token labels of a whole data set on disk."""

import json
import os
import os.path as osp
import zlib
from collections.abc import Sequence

import numpy as np
from mmengine.dataset import BaseDataset

from mmtlalign.errors import UserError
from mmtlalign.output_files import write_whole

from .token_labels import SCORE_MODES, TokenLabels

FORMAT = 2
OLD_FORMAT = 1  # without sums; still read
NUM_READ = 20_000  # maps, before a training
TOLERANCE = 1e-2  # of a sum of scores in half precision
REMAKE = 'make the maps anew with tools/dataset_tools/make_token_labels.py'


class TokenLabelStore:
    """Memory-mapped top-k maps, one per image of a data set, in its order.

    A folder with

    - ``index.json``: format, number of images, grid, k, score mode, classes,
      and what is to be known of the annotator, its accuracy included;
    - ``names.txt``: one image per line, see :func:`image_names`;
    - ``ids.npy``: (images, rows, cols, k), int16 (int32 for more than 32,767 classes);
    - ``scores.npy``: (images, rows, cols, k), float16;
    - ``rectangles.npy``: (images, 4), float32: x1, y1, x2, y2 of what a map
      covers, as parts of the image's width and height;
    - ``checks.npy``: (images,), uint32: a hash of each image's file name;
    - ``sums.npy``: (images,), uint32: a hash of each map;
    - ``done.npy``: (images,), bool: which maps are complete.

    Args:
        path (str): The folder.
        writable (bool): Open for writing maps. Defaults to False.

    Raises:
        UserError: If the folder is no such store, its files are not what the
            index says or, unless writable, it lacks maps.
    """

    def __init__(self, path: str, writable: bool = False) -> None:
        self.path = path
        self.index = _read_index(path)
        self._arrays = {
            name: _open_array(path, name, *layout, writable)
            for name, layout in _layout(self.index).items()
        }
        if not writable and not self.done.all():
            raise UserError(
                f"token labels '{path}' are not complete: {self.done.sum()} of {len(self)} maps; "
                'run make_token_labels.py again, which goes on where it stopped'
            )

    @classmethod
    def create(
        cls,
        path: str,
        names: list[str],
        classes: Sequence[str],
        grid: Sequence[int],
        top_k: int,
        score_mode: str = 'probs',
        annotator: dict | None = None,
        accuracy: dict | None = None,
    ) -> 'TokenLabelStore':
        """Open a store for writing, laid out anew if there is none.

        Args:
            path (str): The folder. A store in it must have been made for the
                same names and settings, and keeps its maps.
            names (list[str]): From :func:`image_names`.
            classes (Sequence[str]): Class names, in the order of ids.
            grid (Sequence[int]): Rows and columns of every map.
            top_k (int): Classes kept per cell.
            score_mode (str): 'probs' or 'logits'. Defaults to 'probs'.
            annotator (dict, optional): What else two stores must have in
                common to be one, in JSON's types.
            accuracy (dict, optional): How well the annotator predicts the
                images' own labels; kept, but not compared.

        Raises:
            UserError: If the store in the folder is another one.
        """
        index = dict(
            format=FORMAT,
            num_images=len(names),
            grid=list(grid),
            top_k=top_k,
            score_mode=score_mode,
            annotator=annotator or {},
            classes=list(classes),
        )
        if not osp.exists(osp.join(path, 'index.json')):
            cls._lay_out(path, dict(index, accuracy=accuracy), names)
        store = cls(path, writable=True)
        for key, value in index.items():
            if store.index.get(key) != value:
                raise UserError(
                    f"'{path}' holds token labels of another kind, with "
                    f'{key}={store.index.get(key)} instead of {value}; '
                    'remove the folder or write elsewhere'
                )
        store._check_names(names)
        return store

    @staticmethod
    def _lay_out(path: str, index: dict, names: list[str]) -> None:
        """Make an empty store; ``index.json``, its seal, comes last."""
        os.makedirs(path, exist_ok=True)
        for name, (shape, dtype) in _layout(index).items():
            array = np.lib.format.open_memmap(osp.join(path, f'{name}.npy'), 'w+', dtype, shape)
            if name == 'checks':
                array[:] = [_hash(line) for line in names]
            array.flush()
        with open(osp.join(path, 'names.txt'), 'w', encoding='utf-8') as file:
            file.writelines(f'{name}\n' for name in names)
        write_whole(osp.join(path, 'index.json'), json.dumps(index, indent=1))

    def __len__(self) -> int:
        return self.index['num_images']

    @property
    def classes(self) -> list[str]:
        """list[str]: Class names, in the order of ids."""
        return self.index['classes']

    @property
    def done(self) -> np.ndarray:
        """np.ndarray: (images,), bool: which maps are complete."""
        return self._arrays['done']

    def write(
        self,
        rows: np.ndarray,
        ids: np.ndarray,
        scores: np.ndarray,
        rectangle: Sequence[float] = (0, 0, 1, 1),
    ) -> None:
        """Write maps and, once they are on disk, mark them as done.

        Args:
            rows (np.ndarray): (B,): numbers of the images.
            ids, scores (np.ndarray): (B, rows, cols, k).
            rectangle (Sequence[float]): What the maps cover. Defaults to the whole image.

        Raises:
            UserError: If a map holds what training cannot use.
        """
        scores = np.asarray(scores, np.float16)
        rectangle = np.array(rectangle, np.float32)
        ids = np.asarray(ids, self._arrays['ids'].dtype)
        for row, *one in zip(rows, ids, scores):
            self._check_map(row, *one, rectangle)
        values = dict(ids=ids, scores=scores, rectangles=rectangle)
        if 'sums' in self._arrays:
            values['sums'] = [_sum(*one, rectangle) for one in zip(ids, scores)]
        for name, value in values.items():
            self._arrays[name][rows] = value
            self._arrays[name].flush()
        self._arrays['done'][rows] = True
        self._arrays['done'].flush()

    def read(self, row: int, name: str | None, image_size: Sequence[int]) -> TokenLabels:
        """The token labels of one whole image.

        Args:
            row (int): Number of the image in the data set.
            name (str, optional): Its path, of which the file name is compared
                with the store's. Defaults to None, for images without files.
            image_size (Sequence[int]): Its rows and columns in pixels.

        Raises:
            UserError: If the store has another image there, or the map is damaged.
        """
        if not 0 <= row < len(self) or (name and _hash(name) != self._arrays['checks'][row]):
            raise UserError(
                f"token labels '{self.path}' have no image {row}, "
                f"'{name}', among their {len(self)}: they belong to another "
                f'data set, or its files have changed; {REMAKE}'
            )
        ids, scores, rectangle = (
            np.array(self._arrays[name][row]) for name in ('ids', 'scores', 'rectangles')
        )
        self._check_map(row, ids, scores, rectangle)
        if 'sums' in self._arrays and (_sum(ids, scores, rectangle) != self._arrays['sums'][row]):
            raise self._damage(row, 'its sum is not the one it was written with')
        # The whole image, 0 to 1, in cells of the map.
        cells = self.index['grid'][::-1] / (rectangle[2:] - rectangle[:2])
        start = rectangle[:2]
        box = np.concatenate([-start * cells, (1 - start) * cells]).astype(np.float32)
        return TokenLabels(
            ids, scores, box, tuple(image_size), len(self.classes), self.index['score_mode']
        )

    def _check_map(
        self, row: int, ids: np.ndarray, scores: np.ndarray, rectangle: np.ndarray
    ) -> None:
        """Raise a UserError for what training would make NaN of."""
        count = len(self.classes)
        x1, y1, x2, y2 = rectangle
        if not np.isfinite(scores).all():
            raise self._damage(row, 'a score is not finite')
        if self.index['score_mode'] == 'probs' and not (
            scores.min() >= 0 and scores.astype(np.float32).sum(-1).max() < 1 + TOLERANCE
        ):
            raise self._damage(row, 'scores are no probabilities')
        if ids.min() < 0 or ids.max() >= count:
            raise self._damage(
                row,
                f'its classes are {ids.min()} to {ids.max()}, but there '
                f'are {count}, 0 to {count - 1}',
            )
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise self._damage(
                row,
                f'its rectangle, {[round(float(v), 4) for v in rectangle]}, is no part of an image',
            )

    def _damage(self, row: int, what: str) -> UserError:
        return UserError(
            f"token labels '{self.path}': the map of image {row} is damaged ({what}); {REMAKE}"
        )

    def check(self, dataset: BaseDataset) -> None:
        """Compare with a data set: number of images, classes, names; and
        read maps, of a large store some.

        Raises:
            UserError: Naming the first difference, or a damaged map.
        """
        classes = dataset.metainfo.get('classes')
        if list(classes or []) != self.classes:
            raise UserError(
                f"token labels '{self.path}' are for other classes than the "
                f'data set: {_first_difference(self.classes, classes or [])}; '
                'annotate with a classifier of the same classes'
            )
        self._check_names(image_names(dataset))
        rows = np.linspace(0, len(self) - 1, min(len(self), NUM_READ))
        for row in rows.astype(int).tolist():
            self.read(row, None, (1, 1))

    def _check_names(self, names: list[str]) -> None:
        try:
            with open(osp.join(self.path, 'names.txt'), encoding='utf-8') as file:
                stored = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(self.path, f'names.txt: {error}') from None
        if stored != names:
            raise UserError(
                f"token labels '{self.path}' belong to {len(stored)} images, the data set has "
                f'{len(names)}: {_first_difference(stored, names)}; {REMAKE}'
            )


def image_names(dataset: BaseDataset) -> list[str]:
    """One name per image of a data set, in its order.

    A path relative to the data set's folder; number and label where images come without files.
    """
    names = []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        if 'img_path' in info:
            names.append(osp.relpath(info['img_path'], dataset.img_prefix))
        else:
            names.append(f'image {i} of class {info.get("gt_label")}')
    return names


def _hash(name: str) -> int:
    """A number in [0, 2**32) from a file name without its folders."""
    return zlib.crc32(osp.basename(name).encode())


def _sum(ids: np.ndarray, scores: np.ndarray, rectangle: np.ndarray) -> int:
    """A number in [0, 2**32) from all bytes of a map."""
    number = 0
    for array in (ids, scores, rectangle):
        number = zlib.crc32(np.ascontiguousarray(array), number)
    return number


def _layout(index: dict) -> dict[str, tuple[tuple, type]]:
    """Shape and type of each array that an index promises."""
    count = index['num_images']
    maps = (count, *index['grid'], index['top_k'])
    ids = np.int16 if len(index['classes']) <= 32767 else np.int32
    layout = dict(
        ids=(maps, ids),
        scores=(maps, np.float16),
        rectangles=((count, 4), np.float32),
        checks=((count,), np.uint32),
        sums=((count,), np.uint32),
        done=((count,), np.bool_),
    )
    if index['format'] == OLD_FORMAT:
        del layout['sums']
    return layout


def _open_array(path: str, name: str, shape: tuple, dtype: type, writable: bool) -> np.ndarray:
    """Of a store, as its index promises it."""
    try:
        array = np.load(osp.join(path, f'{name}.npy'), mmap_mode='r+' if writable else 'r')
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from None
    size, kind = getattr(array, 'shape', 'array'), getattr(array, 'dtype', 'no')
    if (size, kind) != (shape, dtype):
        stated = f'{dtype.__name__} {shape} as index.json says'
        raise _damaged(path, f'{name}.npy holds {kind} {size}, not {stated}')
    return array


def _damaged(path: str, why: str) -> UserError:
    return UserError(f"token labels '{path}' are damaged ({why}); {REMAKE}")


def _read_index(path: str) -> dict:
    try:
        with open(osp.join(path, 'index.json')) as file:
            index = json.load(file)
    except FileNotFoundError:
        raise UserError(
            f"token labels '{path}' do not exist; make them with "
            'tools/dataset_tools/make_token_labels.py'
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f'index.json: {error}') from None
    if not isinstance(index, dict):
        raise _damaged(path, 'index.json holds no object')
    if (
        index.get('format') not in (OLD_FORMAT, FORMAT)
        or index.get('score_mode') not in SCORE_MODES
    ):
        raise UserError(
            f"token labels '{path}' have format {index.get('format')} and score mode "
            f'{index.get("score_mode")!r}; this version reads formats {OLD_FORMAT} and {FORMAT}, '
            f'{" or ".join(SCORE_MODES)}; {REMAKE}'
        )
    grid, classes = index.get('grid'), index.get('classes')
    are_right = dict(
        num_images=_is_count(index.get('num_images')),
        top_k=_is_count(index.get('top_k')),
        grid=isinstance(grid, list) and len(grid) == 2 and all(map(_is_count, grid)),
        classes=isinstance(classes, list) and classes and all(isinstance(c, str) for c in classes),
    )
    for key, is_right in are_right.items():
        if not is_right:
            raise _damaged(path, f'index.json: {key} is {index.get(key)!r:.40}')
    return index


def _is_count(value) -> bool:
    return type(value) is int and value > 0


def _first_difference(stored: Sequence[str], own: Sequence[str]) -> str:
    for i, (a, b) in enumerate(zip(stored, own)):
        if a != b:
            return f"number {i} is '{a}' there and '{b}' here"
    return f'there are {len(stored)} there and {len(own)} here'
