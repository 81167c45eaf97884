"""Tables of images in the formats that Hugging Face ``datasets`` reads.

Only its readers of data are used: nothing here asks for the code of a data
set, and formats that hold pickles are not among :data:`FORMATS`.
"""

import os
import os.path as osp
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

from mmengine.logging import print_log
from rich.filesize import decimal

from mmtlalign.errors import UserError, first_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder, Features

HUB = 'hf://datasets/'
FORMATS = ('parquet', 'arrow', 'webdataset', 'imagefolder')
# What save_to_disk writes beside its tables.
SAVED = ('state.json', 'dataset_dict.json')


def open_table(
    root: str,
    split: str,
    check: Callable[['Features'], None],
    config_name: str | None = None,
    cache_dir: str | None = None,
) -> 'Dataset':
    """One split of a data set, memory-mapped.

    Arrow files are mapped where they lie. Parquet files and tar shards, which cannot be read at
    random, are converted into a cache once; its size is said before, and the disk must have room
    for it. Of images in folders, the cache holds the paths.

    Args:
        root, split, config_name, cache_dir: See :class:`HFImageDataset`.
        check (Callable): Called with the features before anything is
            converted; raises if they will not do.

    Raises:
        UserError: If the library is missing, or the data set cannot be
            read, is in another format or has no such split.
    """
    try:
        from datasets import Dataset, concatenate_datasets
    except ImportError:
        raise UserError(
            "HFImageDataset needs Hugging Face's datasets: pip install 'mmtlalign[hf]'"
        ) from None
    if not root.startswith(HUB) and not osp.isdir(root):
        raise UserError(
            f"data_root '{root}' is no folder: set another; a data set of the "
            f'hub is written {HUB}OWNER/NAME'
        )
    with _one_line(root):
        if any(osp.isfile(osp.join(root, name)) for name in SAVED):
            return _open_saved(root, split)
        builder = _find_builder(root, config_name, cache_dir)
        split = _find_split(root, split, builder.config.data_files)
        files = builder.config.data_files[split]
        if _format(builder) == 'arrow' and all(map(_is_stream, files)):
            tables = [Dataset.from_file(file, in_memory=False) for file in files]
            return concatenate_datasets(tables)
        builder = _narrow(builder, split, cache_dir)
        if not osp.isdir(builder.cache_dir):
            check(builder.as_streaming_dataset(split=split).features)
            _convert(builder, f"'{root}', split '{split}'")
        return builder.as_dataset(split=split, in_memory=False)


@contextmanager
def _one_line(root: str) -> Iterator[None]:
    """Name the data set, and the first cause, of what goes wrong inside."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # readers raise what they like
        while error.__cause__ is not None:
            error = error.__cause__
        raise UserError(
            f"data set '{root}' cannot be read ({type(error).__name__}: {first_line(error)}); it "
            f'must hold images in whole files of one of the formats {", ".join(FORMATS)}'
        ) from error


def _open_saved(root: str, split: str) -> 'Dataset':
    """What save_to_disk wrote; a single table is of whatever split it says,
    or else of the one asked for."""
    from datasets import load_from_disk

    saved = load_from_disk(root, keep_in_memory=False)
    if not isinstance(saved, Mapping):
        saved = {str(saved.split or split): saved}
    return saved[_find_split(root, split, saved)]


def _find_builder(root: str, config_name: str | None, cache_dir: str | None) -> 'DatasetBuilder':
    from datasets import load_dataset_builder

    revision = None
    if root.startswith(HUB):
        root, _, revision = root.partition('@')
    else:
        root = osp.abspath(root)  # else 'csv' is taken for a format
    builder = load_dataset_builder(
        root, config_name, cache_dir=cache_dir, revision=revision or None
    )
    if _format(builder) not in FORMATS:
        raise UserError(
            f"data set '{root}' is in the format {_format(builder)}, not in "
            f'one of {", ".join(FORMATS)}'
        )
    return builder


def _format(builder: 'DatasetBuilder') -> str:
    return type(builder).__module__.rsplit('.', 1)[-1]


def _find_split(root: str, split: str, splits: Mapping) -> str:
    names = [str(name) for name in splits]
    for name in (split, 'validation' if split == 'val' else split):
        if name in names:
            return name
    raise UserError(f"data set '{root}' has no split '{split}', only {', '.join(names)}")


def _is_stream(file: str) -> bool:
    """Whether an arrow file can be mapped as it is."""
    if not osp.isfile(file):
        return False
    with open(file, 'rb') as opened:
        return opened.read(6) != b'ARROW1'


def _narrow(builder: 'DatasetBuilder', split: str, cache_dir: str | None) -> 'DatasetBuilder':
    """Leave other splits out, which the library would convert as well.

    Not those of images in folders: their classes are numbered over all
    splits, and little is converted.
    """
    from datasets import load_dataset_builder

    kind, files = _format(builder), builder.config.data_files
    if kind == 'imagefolder' or len(files) == 1:
        return builder
    alone = dict(data_files={split: list(files[split])}, features=builder.info.features)
    return load_dataset_builder(kind, cache_dir=cache_dir, **alone)


def _convert(builder: 'DatasetBuilder', what: str) -> None:
    """Fill the cache; of several processes, one does."""
    cache = builder.cache_dir
    files = chain.from_iterable(builder.config.data_files.values())
    size = sum(map(_size_to_copy, files))
    if size:
        print_log(
            f'{what}: converting it once, into about {decimal(size)} under {cache}',
            logger='current',
        )
    place = cache
    while not osp.isdir(place):
        place = osp.dirname(place) or os.curdir
    free = shutil.disk_usage(place).free
    if free < size:
        raise UserError(
            f'{what} takes about {decimal(size)} when converted, and the disk of its cache '
            f"'{cache}' has {decimal(free)} free; set cache_dir to a place on another"
        )
    builder.download_and_prepare()


def _size_to_copy(file: str) -> int:
    """Bytes of a file; 0 for an image, which is left where it is."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
    from fsspec.core import url_to_fs

    if osp.splitext(file)[1].lower() in ImageFolder.EXTENSIONS:
        return 0
    system, path = url_to_fs(file)
    return system.size(path) or 0
