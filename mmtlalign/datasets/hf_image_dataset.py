import os.path as osp
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import TRANSFORMS

from mmtlalign.errors import UserError
from mmtlalign.registry import DATASETS

from .hf_tables import open_table
from .transforms.embedded_images import LoadEmbeddedImage

if TYPE_CHECKING:
    from datasets import Dataset, Features


@DATASETS.register_module()
class HFImageDataset(BaseDataset):
    """Labelled images in the formats of Hugging Face's ``datasets``.

    Parquet and arrow files, tar shards in the layout of webdataset, folders
    of images, and data sets of the hub. Tables are memory-mapped, so that a
    data set needs neither files by the million nor memory for its images.
    Parquet and tar are converted into a cache once; see :func:`open_table`.
    Pipelines stay as they are: in place of ``LoadImageFromFile``, the same
    decoder reads the bytes in the table.

    Args:
        data_root (str): A folder, or ``hf://datasets/OWNER/NAME`` with or without ``@REVISION``.
        split (str): ``'val'`` is also ``'validation'``. Defaults to 'train'.
        image_column (str): Defaults to 'image'.
        label_column (str): Class labels, or integers if ``classes`` names
            them. Defaults to 'label'.
        config_name (str, optional): Of a data set that has several. Defaults to None.
        cache_dir (str, optional): Where parquet and tar are converted to.
            Defaults to None, the library's own (``HF_DATASETS_CACHE``).
        **kwargs: Arguments of :class:`mmpretrain.datasets.BaseDataset`
            other than those that name files.

    Raises:
        UserError: If the library is missing; there is no such folder, split or column; a column is
            of another type; there are no images, images without content, or labels without names.
    """

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        image_column: str = 'image',
        label_column: str = 'label',
        config_name: str | None = None,
        cache_dir: str | None = None,
        pipeline=(),
        **kwargs,
    ) -> None:
        self.split = split
        self.columns = image_column, label_column
        self.table_args = dict(config_name=config_name, cache_dir=cache_dir)
        super().__init__(
            ann_file='',
            data_prefix=dict(img_path=osp.expanduser(data_root)),
            pipeline=[_from_memory(step) for step in pipeline],
            **kwargs,
        )

    def read_classes(self) -> tuple[str, ...]:
        """Names of the classes, without reading labels and images."""
        self._open()
        return self.CLASSES

    def load_data_list(self) -> list[dict]:
        """Rows, labels, and names for messages; the images stay on disk."""
        table = self._open()
        from datasets import Image

        if not len(table):
            raise UserError(f'{self._where} is empty')
        image_column, label_column = self.columns
        labels = self._read_labels(table.data.column(label_column))
        # as (bytes, path), none of them decoded
        images = table.select_columns([image_column])
        self._images = images.cast_column(image_column, Image(decode=False))
        return [
            dict(image, gt_label=label)
            for image, label in zip(self._find_images(), labels.tolist())
        ]

    def prepare_data(self, idx: int) -> dict | None:
        """The image of a sample, through the pipeline."""
        info = self.get_data_info(idx)
        if 'row' in info:
            column = self._images.data.column(0)
            info['img_bytes'] = column[info['row']]['bytes'].as_py()
        return self.pipeline(info)

    def extra_repr(self) -> list[str]:
        """Where it comes from, instead of files it does not have."""
        return [f'From: \t{self._where}']

    @property
    def _where(self) -> str:
        return f"data set '{self.img_prefix}', split '{self.split}'"

    def _open(self) -> 'Dataset':
        """The table, whose columns and classes are known to be right."""
        table = open_table(self.img_prefix, self.split, self._check, **self.table_args)
        self._check(table.features)
        return table

    def _check(self, features: 'Features') -> None:
        """Look at the columns, and take the names of the classes."""
        _check_columns(features, self.columns, self._where)
        self._name_classes(features[self.columns[1]])

    def _name_classes(self, feature) -> None:
        """Take the names from the features, unless the config renames them all in this order."""
        own = getattr(feature, 'names', None)
        given = self._metainfo.get('classes')
        if given is None and own is None:
            raise UserError(
                f"the labels of {self._where}, column '{self.columns[1]}', "
                'have no names: set classes to them, in order'
            )
        if given is None:
            self._metainfo['classes'] = tuple(own)
        elif own and len(given) != len(own):
            raise UserError(
                f'{self._where} has {len(own)} classes, and the config names '
                f'{len(given)}: leave classes out, or name all'
            )
        elif own and set(given) == set(own) and list(given) != list(own):
            raise UserError(
                f'{self._where} has the classes of the config in another '
                f'order ({", ".join(own[:5])}, ...): leave classes out'
            )

    def _read_labels(self, column) -> np.ndarray:
        """Labels of all rows, each one of a class."""
        labels = column.fill_null(-1).to_numpy()
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.CLASSES)))
        if len(wrong):
            raise UserError(
                f'{self._where} has {len(wrong)} labels that are none of its {len(self.CLASSES)} '
                f'classes; the first is {column[wrong[0]].as_py()}, in row {wrong[0]}: is it a '
                'split without labels?'
            )
        return labels

    def _find_images(self) -> Iterator[dict]:
        """Files of images outside the table; rows of those in it, with what to call them."""
        import pyarrow.compute as pc

        column = self._images.data.column(0)
        embedded = pc.is_valid(pc.struct_field(column, 'bytes')).to_pylist()
        paths = pc.struct_field(column, 'path').to_pylist()
        for row, (is_inside, path) in enumerate(zip(embedded, paths)):
            if is_inside:
                name = [osp.basename(path)] if path else []
                yield dict(row=row, img_path=osp.join(self.img_prefix, self.split, str(row), *name))
            elif path is None:
                raise UserError(f'{self._where} has no image in row {row}')
            else:
                yield dict(img_path=path)


def _from_memory(step):
    """The step of a pipeline; one that reads a file is replaced."""
    kind = step['type'] if isinstance(step, dict) else None
    if isinstance(kind, str):
        kind = TRANSFORMS.get(kind)
    return dict(step, type=LoadEmbeddedImage) if kind is LoadImageFromFile else step


def _check_columns(features: 'Features', columns: tuple[str, str], where: str) -> None:
    """Raise a UserError if a column is missing or of another type."""
    kinds = dict(
        image_column=(_is_image, 'encoded images'),
        label_column=(_is_label, 'class labels or integers'),
    )
    for column, (name, (fits, wanted)) in zip(columns, kinds.items()):
        if column not in features:
            raise UserError(
                f"{where} has no column '{column}', only {', '.join(features)}: set {name}"
            )
        if not fits(features[column]):
            raise UserError(
                f"column '{column}' of {where} is of type {features[column]}, and {wanted} are "
                f'wanted: set {name} to another of {", ".join(features)}'
            )


def _is_image(feature) -> bool:
    from datasets import Image

    return isinstance(feature, Image) or (
        'bytes' in feature
        if isinstance(feature, dict)
        else getattr(feature, 'dtype', '') in ('binary', 'large_binary')
    )


def _is_label(feature) -> bool:
    from datasets import ClassLabel, Value
    from pyarrow.types import is_integer

    return isinstance(feature, (ClassLabel, Value)) and is_integer(feature.pa_type)
