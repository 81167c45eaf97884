"""The headers of images: size and orientation, without decoding them."""

import os
import os.path as osp
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mmtlalign.datasets.orientation import orientation_of
from mmtlalign.errors import UserError, first_line

SAMPLE = 2000  # headers read unless all are to be
SUFFIXES = '.bmp .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp'.split()


class Header(NamedTuple):
    """Of an image file."""

    size: tuple[int, int]  # width and height as stored
    orientation: int  # 1 to 8, as EXIF has it; 1 without a tag


def read_header(path: str) -> Header:
    """Read the beginning of a file; a UserError if it is no image that can be read."""
    if osp.exists(path) and not osp.isfile(path):  # a pipe would be waited for
        raise UserError(f"image '{path}' is no file: take it out of the data set")
    try:
        with Image.open(path) as image:
            return Header(image.size, orientation_of(image))
    except Exception as error:  # reading garbage can raise anything
        try:
            decoded = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        except cv2.error:
            decoded = None
        if decoded is not None:  # a format of which only OpenCV knows
            return Header(decoded.shape[1::-1], 1)
        reason = 'it is empty' if osp.isfile(path) and not osp.getsize(path) else first_line(error)
        raise UserError(
            f"image '{path}' cannot be read ({reason}): get it again or take it out of the data set"
        ) from None


def sample(items: Sequence, full: bool, count: int = SAMPLE) -> list:
    """All items, or some of many, evenly spread."""
    if full or len(items) <= count:
        return list(items)
    places = np.linspace(0, len(items) - 1, count).astype(int)
    return [items[i] for i in places]


def missing_files(paths: Sequence[str]) -> list[str]:
    """Those that are not there; every folder is listed once."""

    @cache
    def names_in(folder: str) -> set[str]:
        return set(os.listdir(folder)) if osp.isdir(folder) else set()

    return [path for path in paths if osp.basename(path) not in names_in(osp.dirname(path) or '.')]


def folders_of(paths: Iterable[str]) -> list[str]:
    """The folders that files lie in, sorted; each changes with its files."""
    return sorted({osp.dirname(path) or '.' for path in paths})


def say_unread(folder: str, read: Sequence[str], what: str = 'images') -> list[str]:
    """What a report says of image files below a folder, but for hidden ones, that are not among
    those read: their number by suffix, most frequent first; nothing of none."""
    known = {osp.normpath(path) for path in read}
    counts: Counter[str] = Counter()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith('.')]
        for name in names:
            suffix = osp.splitext(name)[1]
            is_image = suffix.lower() in SUFFIXES and not name.startswith('.')
            if is_image and osp.normpath(osp.join(place, name)) not in known:
                counts[suffix] += 1
    if not counts:
        return []
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kinds = ', '.join(f'{count} {suffix}' for suffix, count in ranked)
    left = counts.total()
    return [f'{left} of {len(read) + left} {what} in {folder} ({kinds})']


def say_unclear(count: int, looked_at: int, where: str) -> str:
    """The warning on images whose annotation may be of either view."""
    return (
        f'{count} of {looked_at} images of {where} have an EXIF '
        'orientation that sizes cannot confirm; they are read as stored: '
        'give --apply-exif if the annotations were drawn on turned images'
    )
