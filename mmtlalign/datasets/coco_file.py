"""One streaming pass over an annotation file in COCO format."""

import gc
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from mmtlalign.errors import UserError

from .json_rows import JSONRowsError, read_rows

NUMBERS = frozenset((int, float))
# What an annotation's segmentation is to the host.
NO_MASK, POLYGONS, RUN_LENGTHS, USELESS_MASK = range(4)
FAR = 100_000  # of the corner of an image; pycocotools fails on what is much further
COLUMNS = ('id', 'image_id', 'category_id', 'x', 'y', 'w', 'h', 'area')


@dataclass
class CocoFile:
    """What a file says, small enough for COCO's 860,000 annotations.

    Columns of ``table`` are in the order of the file: ``COLUMNS``, ``crowd`` (1, 0, or -1 if it
    does not say), ``ignore`` and ``mask``.
    """

    images: dict = field(default_factory=dict)  # id -> (file name, width, height)
    categories: dict = field(default_factory=dict)  # id -> name, in the order of the file
    table: dict = field(default_factory=dict)
    # (rows, columns) of run lengths -> numbers, in the file, of annotations that have them
    masks: dict = field(default_factory=dict)


def read_coco(file: BinaryIO, what: str, keep: Callable[[dict], object] | None = None) -> CocoFile:
    """Read a file in one pass, with its keys in any order.

    A COCO-sized file, which takes several GB as Python objects, takes some
    hundred MB: records are looked at one by one, and what is needed of
    annotations is kept as columns.

    Args:
        file (BinaryIO): To read.
        what (str): It is, for messages.
        keep (Callable, optional): Called with every annotation.

    Raises:
        UserError: Naming the file as ``what``, and what is wrong with it or a record.
    """
    reader = _Reader()
    take = dict(
        images=('image', reader.take_image),
        categories=('category', reader.take_category),
        annotations=('annotation', reader.take_annotation),
    )
    collects = gc.isenabled()
    gc.disable()  # records hold no cycles, and there are millions
    try:
        for key, row in read_rows(file, list(take)):
            kind, function = take[key]
            function(row)
            if keep and key == 'annotations':
                keep(row)
    except JSONRowsError as error:
        raise UserError(
            f'{what} is no JSON in COCO format ({error}, after {len(reader.columns["id"])} '
            'annotations; NaN and Infinity are no numbers of JSON); get it again or correct it'
        ) from None
    except _Fault as fault:
        name = 'a category' if kind == 'category' else f'an {kind}'
        if isinstance(row, dict) and 'id' in row:
            name = f'{kind} {row["id"]!r:.40}'
        raise UserError(f'{what}: {name} {fault}; correct the file') from None
    finally:
        if collects:
            gc.enable()
    return reader.result()


class _Fault(Exception):
    """What is wrong with a record."""


class _Reader:
    """Takes the records of a file one by one; refuses what COCO has not."""

    def __init__(self) -> None:
        self.file = CocoFile()
        self.columns = {
            key: array('d' if key in 'xywh' or key == 'area' else 'q') for key in COLUMNS
        }
        self.flags = {key: array('b') for key in ('crowd', 'ignore', 'mask')}

    def result(self) -> CocoFile:
        self.file.table = {
            key: np.frombuffer(column, column.typecode) if column else np.zeros(0)
            for key, column in {**self.columns, **self.flags}.items()
        }
        return self.file

    def take_image(self, row) -> None:
        _check_row(row, ('id', 'file_name', 'width', 'height'))
        if not isinstance(row['file_name'], str) or not row['file_name']:
            raise _Fault(f'has the file_name {row["file_name"]!r:.40}, which is no text')
        for key in ('width', 'height'):
            if not _are_numbers([row[key]]) or row[key] < 1 or row[key] % 1:
                raise _Fault(f'has the {key} {row[key]!r:.40}, which is no number of pixels')
        if row['id'] in self.file.images:
            raise _Fault('is there twice')
        self.file.images[row['id']] = (row['file_name'], int(row['width']), int(row['height']))

    def take_category(self, row) -> None:
        _check_row(row, ('id', 'name'))
        if not isinstance(row['name'], str):
            raise _Fault(f'has the name {row["name"]!r:.40}, which is no text')
        if row['id'] in self.file.categories or row['name'] in self.file.categories.values():
            raise _Fault(f'({row["name"]!r:.40}) has an id or a name that is there twice')
        self.file.categories[row['id']] = row['name']

    def take_annotation(self, row) -> None:
        _check_row(row, ('id', 'image_id', 'category_id', 'bbox', 'area'))
        for key in ('image_id', 'category_id'):
            if type(row[key]) is not int:
                kind = type(row[key]).__name__
                raise _Fault(f'has the {key} {row[key]!r:.40}, a {kind} and no whole number')
        box, area = row['bbox'], row['area']
        if not (isinstance(box, list) and len(box) == 4 and _are_numbers(box)):
            raise _Fault(f'has the bbox {box!r:.60}, which is not four numbers')
        if not _are_numbers([area]):
            raise _Fault(f'has the area {area!r:.40}, which is no number')
        values = (row['id'], row['image_id'], row['category_id'], *box, area)
        for key, value in zip(COLUMNS, values):
            self.columns[key].append(value)
        crowd = row.get('iscrowd', -1)
        if crowd not in (-1, 0, 1):
            raise _Fault(f'has the iscrowd {crowd!r:.40}, which is neither 0 nor 1')
        self.flags['crowd'].append(int(crowd))
        self.flags['ignore'].append(bool(row.get('ignore')))
        self.flags['mask'].append(self.kind_of_mask(row.get('segmentation')))

    def kind_of_mask(self, mask) -> int:
        """What the host makes of a segmentation."""
        if not mask:
            return NO_MASK
        if isinstance(mask, dict):
            return self.take_run_lengths(mask.get('size'), mask.get('counts'))
        if not (isinstance(mask, list) and all(isinstance(polygon, list) for polygon in mask)):
            raise _Fault(f'has a segmentation {mask!r:.40} that is no list of polygons')
        if not all(map(_are_numbers, mask)):
            raise _Fault('has a polygon with what is no number')
        if any(polygon and max(map(abs, polygon)) > FAR for polygon in mask):
            raise _Fault(f'has a polygon that reaches beyond {FAR:,} px')
        useful = any(len(polygon) >= 6 and not len(polygon) % 2 for polygon in mask)
        return POLYGONS if useful else USELESS_MASK

    def take_run_lengths(self, size, counts) -> int:
        if counts is None or size is None:
            return USELESS_MASK
        is_size = isinstance(size, list) and [type(value) for value in size] == [int, int]
        are_counts = isinstance(counts, list) and all(
            type(count) is int and count >= 0 for count in counts
        )
        if not (is_size and (are_counts or isinstance(counts, str))):
            raise _Fault('has a segmentation whose size and counts are no run lengths')
        pixels = sum(counts) if isinstance(counts, list) else _count_pixels(counts)
        if pixels != size[0] * size[1]:
            raise _Fault(
                f'has a segmentation of run lengths for {"no" if pixels is None else pixels} '
                f'pixels in place of {size[0]}x{size[1]}'
            )
        self.file.masks.setdefault(tuple(size), array('q')).append(len(self.columns['id']) - 1)
        return RUN_LENGTHS


def _check_row(row, keys: tuple) -> None:
    if not isinstance(row, dict):
        raise _Fault(f'is {row!r:.40} and no object')
    for key in keys:
        if key not in row:
            raise _Fault(f"has no '{key}'")
    if type(row['id']) is not int:
        raise _Fault('has an id that is no whole number')


def _are_numbers(values: list) -> bool:
    """Finite ones: the parser refuses others."""
    return NUMBERS.issuperset(map(type, values))


def _count_pixels(counts: str) -> int | None:
    """Pixels that compressed run lengths are of, which the host decodes without looking whether
    they fill the mask.

    A number is written five bits a character, the least first and with a sign; from the fourth
    on, it is the difference to the one before last.

    Returns:
        int | None: None if these are no run lengths.
    """
    codes = np.frombuffer(counts.encode('ascii', 'replace'), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(ends) or ends[-1] + 1 != len(codes) or codes.min() < 0 or codes.max() > 63:
        return None
    starts = np.append(0, ends[:-1] + 1)
    places = 5 * (np.arange(len(codes)) - np.repeat(starts, ends - starts + 1))
    if places.max() > 30:
        return None
    numbers = np.add.reduceat((codes & 31) << places, starts)
    numbers -= np.where(codes[ends] & 16, 32 << places[ends], 0)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return int(numbers.sum()) if numbers.min() >= 0 else None
