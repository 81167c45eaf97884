"""Look at the contents of a classification data set before training on it."""

import os
import os.path as osp
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain.datasets import CustomDataset

from mmtlalign.datasets.image_folders import FoldersByName, number_folders
from mmtlalign.errors import UserError

from .findings import Findings
from .images import folders_of, missing_files, read_header, sample, say_unread
from .paths import has_image_files
from .progress import in_threads


class LabelledImages:
    """A data set of the host's, opened but not read.

    Attributes:
        classes (list[str] | None): Names in the order of labels: those of the
            config, or the folders'. None if nothing tells.
        files (dict[str, list[str]]): Paths of the images, by folder.
    """

    def __init__(self, where: str, dataset: ConfigDict) -> None:
        self.where, self.config = where, dataset
        self.built = build_unread(dataset)
        self.folder = self.built.img_prefix
        self.list_file = self.built.ann_file
        self.files: dict[str, list[str]] = {}
        self.hidden: list[str] = []
        self.empty: list[str] = []
        if not self.list_file and self.built.with_label:
            self._find_folders()
        self.classes = list(map(str, self.built.CLASSES or self.files)) or None

    def renamed(self, classes: Iterable | None) -> 'LabelledImages':
        """Itself, with the names that the config has been given meanwhile."""
        self.built = build_unread(self.config)
        self.classes = list(map(str, classes or ())) or self.classes
        return self

    def _find_folders(self) -> None:
        """Names of folders with images, hidden ones, and others."""
        if not osp.isdir(self.folder):
            raise self.refuse('is no folder: put the images there, or set another place')
        for name in sorted(os.listdir(self.folder)):
            if not osp.isdir(osp.join(self.folder, name)):
                continue
            if name.startswith('.'):
                self.hidden.append(name)
            elif files := sorted(self.files_in(name)):
                self.files[name] = files
            else:
                self.empty.append(name)

    def files_in(self, name: str = '') -> Iterator[str]:
        """Paths that the host would read below a folder, as it finds them."""
        for place, folders, files in os.walk(osp.join(self.folder, name), followlinks=True):
            here = osp.join(osp.realpath(place), '')
            for link in folders:
                if here.startswith(osp.join(osp.realpath(osp.join(place, link)), '')):
                    raise self.refuse(
                        f"has the link '{osp.join(place, link)}', which leads back to where it "
                        'lies, so that images would be read again and again: remove it'
                    )
            for file in files:
                if not file.startswith('.') and self.built.is_valid_file(file):
                    yield osp.join(place, file)

    def refuse(self, complaint: str) -> UserError:
        what = (
            f"annotation file '{self.list_file}' ({self.where}.ann_file)"
            if self.list_file
            else f"'{self.folder}' ({self.where})"
        )
        return UserError(f'{what} {complaint}')


def build_unread(dataset: ConfigDict):
    """A data set of mmpretrain's, without its pipeline; nothing is read."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build({**dataset, 'pipeline': [], 'lazy_init': True})


def opens_as_labelled(cls: type | None) -> bool:
    """Whether a class reads folders or lists as the host's ``CustomDataset`` does, with labels."""
    return (
        isinstance(cls, type)
        and issubclass(cls, CustomDataset)
        and getattr(cls, 'load_data_list') is CustomDataset.load_data_list
    )


def look_at_images(data: LabelledImages, num_classes: int | None, full: bool = False) -> Findings:
    """Labels, which stay below ``num_classes``, files and headers of a data set; ``full``: all of
    these, not a sample.

    Raises:
        UserError: Naming the folder, or file and line, and what to do.
    """
    found = Findings(data.where, files=[data.folder])
    if data.list_file:
        paths = _read_list(data, num_classes, found)
        found.files.append(data.list_file)
    else:
        paths = _read_folders(data, found)
        found.files += [osp.join(data.folder, name) for name in (*data.empty, *data.hidden)]
    found.images = len(paths)
    if not has_image_files(data.config):
        return found
    found.left_out += say_unread(data.folder, paths)
    _leave_out(data, found)
    looked_at = sample(paths, full)
    in_threads(read_header, looked_at, 'image headers')
    found.files += [*folders_of(paths), *looked_at]
    return found


def _read_folders(data: LabelledImages, found: Findings) -> list[str]:
    """Paths of the images; counts them by class."""
    for names, kind in ((data.hidden, 'hidden'), (data.empty, 'empty')):
        if names:
            found.left_out.append(
                f'{len(names)} {kind} folders ({", ".join(names[:5])}{", ..." * (len(names) > 5)})'
            )
            if not isinstance(data.built, FoldersByName):
                raise data.refuse(
                    f'has the {kind} folder {names[0]!r}, which '
                    f'{type(data.built).__name__} takes for a class: remove '
                    f'it, or set {data.where}.type=mmtlalign.CustomDataset'
                )
    if not data.built.with_label:
        return sorted(data.files_in())
    if not data.files:
        raise data.refuse(
            'has no image in its folders, one for each class, that ends in '
            f'one of {", ".join(sorted(data.built.extensions))}: put them '
            f'there, or set {data.where}.extensions'
        )
    try:
        labels = number_folders([*data.files], data.classes, data.folder)
    except ValueError as error:
        raise UserError(f'{error}: correct {data.where}.metainfo.classes or the folders') from None
    every = (labels[name] for name, files in data.files.items() for _ in files)
    found.counts = _by_name(every, data.classes)
    absent = [name for name, count in found.counts.items() if not count]
    if absent and not isinstance(data.built, FoldersByName):
        raise data.refuse(
            f'has no folder for {", ".join(map(repr, absent[:5]))}, and '
            f'{type(data.built).__name__} numbers those that are there: set '
            f'{data.where}.type=mmtlalign.CustomDataset, which goes by names'
        )
    return [path for files in data.files.values() for path in files]


def _leave_out(data: LabelledImages, found: Findings) -> None:
    """Count anew where the data set takes but a part of its images."""
    if data.config.get('indices') is None and 'num_samples' not in data.config:
        return
    try:
        data.built.full_init()
    except (ValueError, IndexError) as error:
        raise UserError(f'{data.where}: {error}') from None
    left_out = found.images - len(data.built)
    found.left_out.append(
        f'{left_out} of {found.images} images, which indices or num_samples do not take'
    )
    found.images = len(data.built)
    if found.counts:
        found.counts = _by_name(data.built.get_gt_labels().tolist(), found.counts)


def _by_name(labels: Iterable[int], classes: Iterable[str]) -> dict[str, int]:
    """How many labels are of each class."""
    counts = Counter(labels)
    return {name: counts[i] for i, name in enumerate(classes)}


def _read_list(data: LabelledImages, num_classes: int | None, found: Findings) -> list[str]:
    """Paths of the images; line by line, counts them by class."""
    try:
        with open(data.list_file, encoding='utf-8') as file:
            lines = [line.strip('\n\r') for line in file]
    except UnicodeDecodeError as error:
        raise data.refuse(f'is no text in UTF-8 ({error}); save it as such') from None
    if not lines:
        raise data.refuse('is empty; it must hold a line "PATH LABEL" for each image')
    labels, names = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise data.refuse(f'has an empty line {number}: remove it')
        name, label = _parse_line(data, number, line) if data.built.with_label else (line, None)
        names.append(name)
        labels.append(label)
    if data.built.with_label:
        _check_range(data, labels, num_classes)
        again = len(set(zip(names, labels))) - len(set(names))
        if again:
            found.warnings.append(
                f'{again} images of {data.where} are there with one label, and with another: the '
                'list says so in two lines each'
            )
        classes = data.classes or map(str, range(num_classes or max(labels) + 1))
        found.counts = _by_name(labels, classes)
    paths = [osp.join(data.folder, name) for name in names]
    missing = missing_files(paths) if has_image_files(data.config) else []
    if missing:
        place = paths.index(missing[0]) + 1
        raise data.refuse(
            f'names {len(missing)} of {len(paths)} images that are not there, the first in line '
            f"{place}: '{missing[0]}'; add them, or correct the line (PATH, one blank, LABEL) or "
            f'{data.where}.data_prefix'
        )
    return paths


def _parse_line(data: LabelledImages, number: int, line: str) -> tuple[str, int]:
    """As the host does, but for what it ends with a traceback on."""
    name, blank, label = line.strip().rpartition(' ')
    shape = 'a line is PATH, one blank, LABEL, a number from 0'
    if not blank:
        marks = {'\t': 'a tab', ',': 'a comma', ';': 'a semicolon'}
        mark = next((marks[sign] for sign in marks if sign in line), 'nothing')
        raise data.refuse(
            f'has {mark} in line {number} where a blank must be ({line!r:.60}): {shape}'
        )
    if not (label.isascii() and label.isdigit()):
        raise data.refuse(f'has the label {label!r:.40} in line {number} ({line!r:.60}): {shape}')
    return name, int(label)


def _check_range(data: LabelledImages, labels: Sequence[int], num_classes: int | None) -> None:
    """No label is beyond the classes."""
    count = len(data.classes) if data.classes else num_classes
    if count is None or max(labels) < count:
        return
    line = next(i for i, label in enumerate(labels, 1) if label >= count)
    hint = (
        '; no label is 0: it seems to count from 1, subtract 1 from each'
        if 0 not in labels and max(labels) == count
        else ': correct it, or the classes'
    )
    raise data.refuse(
        f'has the label {labels[line - 1]} in line {line}, but '
        f'there are {count} classes, 0 to {count - 1}{hint}'
    )
