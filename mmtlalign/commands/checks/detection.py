"""Whether a COCO annotation file says what a config expects of it."""

import os.path as osp
from functools import cached_property

import numpy as np
from mmengine.config import ConfigDict

from mmtlalign.datasets.coco_file import NO_MASK, USELESS_MASK, CocoFile, read_coco
from mmtlalign.datasets.orientation import UNCLEAR, annotated_view
from mmtlalign.errors import UserError

from .findings import Findings
from .images import Header, folders_of, missing_files, read_header, sample, say_unclear, say_unread
from .paths import has_image_files
from .progress import in_threads, open_with_bar


def look_at_coco(
    where: str,
    dataset: ConfigDict,
    path: str,
    classes: list[str] | None,
    *,
    evaluated: bool = False,
    with_masks: bool = False,
    full: bool = False,
) -> Findings:
    """Read a COCO file and the headers of its images.

    The host numbers labels in the order of the file and not of the config,
    leaves out names, boxes and images without a word, and fails in the middle
    of an epoch, or of a test, for keys that are missing.

    Args:
        path (str): The annotation file of the data set at ``where`` in the config; it exists.
        classes (list[str], optional): Names the config expects, in order; None if any will do.
        evaluated, with_masks (bool): What the file, and its masks, are for.

    Raises:
        UserError: Naming the file, the record and what to do.
    """
    what = f"annotation file '{path}' ({where}.ann_file)"
    with open_with_bar(path) as file:
        coco = read_coco(file, what)
    annotated = where[:4] != 'test'  # else it may be for a server
    for key, there in (
        ('images', coco.images),
        ('categories', coco.categories),
        ('annotations', len(coco.table['id'])),
    ):
        if not there and (key != 'annotations' or annotated):
            raise UserError(
                f"{what} has no {key}: '{key}' is missing or empty; is it the right file, in COCO "
                'format?'
            )
    names = list(coco.categories.values())
    if classes is not None and names != classes:
        raise UserError(
            f'{what} has the categories {names}, but the config expects {classes}; labels are '
            f'numbered in the order of the file, so set {where}.metainfo.classes to its names in '
            'its order'
        )
    found = Findings(where, len(coco.images), 'boxes', files=[path])
    check = _CocoCheck(coco, dataset, what, found)
    check.ids()
    check.boxes()
    if evaluated:
        missing = coco.table['crowd'] < 0
        check.refuse(missing, "has no 'iscrowd', which scores are computed with")
    if with_masks:
        check.masks()
    check.count()
    check.images(full)
    return found


class _CocoCheck:
    """Refuses what is wrong in a file, and counts the rest."""

    def __init__(self, coco: CocoFile, dataset: ConfigDict, what: str, found: Findings) -> None:
        self.coco, self.table = coco, coco.table
        self.dataset, self.what, self.found = dataset, what, found

    def refuse(self, wrong: np.ndarray, complaint: str) -> None:
        """Raise if there are such annotations, naming the first and their number."""
        if wrong.any():
            first = int(self.table['id'][np.flatnonzero(wrong)[0]])
            raise UserError(
                f'{self.what}: annotation {first} {complaint} ({int(wrong.sum())} of {len(wrong)} '
                'annotations); correct the file'
            )

    def ids(self) -> None:
        """Annotations belong to an image and a category, and to no other's id."""
        ids = self.table['id']
        self.refuse(ids <= 0, 'has an id that is not positive, and counts as no match in scores')
        order = np.argsort(ids, kind='stable')
        twice = np.zeros(len(order), bool)
        twice[order[1:]] = np.diff(ids[order]) == 0
        self.refuse(twice, 'has an id that another one has')
        for key, known in (('image_id', self.coco.images), ('category_id', self.coco.categories)):
            unknown = ~np.isin(self.table[key], np.array(list(known), np.int64))
            first = ', '.join(map(str, self.table[key][unknown][:1].tolist()))
            some = ', '.join(map(str, list(known)[:5])) + ', ...' * (len(known) > 5)
            self.refuse(unknown, f'has the {key} {first}, which is none of the ids {some}')

    @cached_property
    def sizes(self) -> np.ndarray:
        """(2, N): width and height of the image of each annotation."""
        ids = np.array(sorted(self.coco.images), np.int64)
        sizes = np.array([self.coco.images[key][1:] for key in ids.tolist()])
        rows = np.searchsorted(ids, self.table['image_id'].astype(np.int64))
        return sizes[rows].T if len(rows) else np.zeros((2, 0))

    @cached_property
    def survives(self) -> np.ndarray:
        """(N,), bool: the annotations that the host's data set does not drop."""
        x, y, w, h = (self.table[key] for key in 'xywh')
        width, height = self.sizes
        inside_w = np.minimum(x + w, width) - np.maximum(x, 0)
        inside_h = np.minimum(y + h, height) - np.maximum(y, 0)
        is_box = (inside_w > 0) & (inside_h > 0) & (w >= 1) & (h >= 1)
        return is_box & (self.table['area'] > 0) & (self.table['ignore'] == 0)

    def boxes(self) -> None:
        """Boxes that the host drops are counted; at least one must stay."""
        survives, found = self.survives, self.found
        ignored = self.table['ignore'] != 0
        if not survives.any():
            self.refuse(
                ~survives,
                'has a box that lies outside its image, is below 1 px or has no area, and is left '
                'out, as all are',
            )
        for count, why in (
            ((~survives & ~ignored).sum(), 'outside the image, below 1 px or of no area'),
            (ignored.sum(), "to 'ignore'"),
        ):
            if count:
                found.left_out.append(f'{count} of {len(survives)} boxes {why}')
        x, y, w, h = (self.table[key] for key in 'xywh')
        width, height = self.sizes
        beyond = survives & ((x < -1) | (y < -1) | (x + w > width + 1) | (y + h > height + 1))
        if beyond.sum() > survives.sum() / 2:
            found.warnings.append(
                f'{beyond.sum()} of {len(survives)} boxes of {found.where} reach beyond their '
                'image, as they do where x, y of both corners are taken for x, y, width, height'
            )

    def masks(self) -> None:
        """What a mask head is trained on is there and of the image's size."""
        survives, kind = self.survives, self.table['mask']
        self.refuse(
            survives & (kind == NO_MASK),
            "has no 'segmentation', and masks are trained or evaluated: train a detector without "
            "a mask head, leave 'segm' out of the evaluator's metric, or",
        )
        useless = (survives & (kind == USELESS_MASK)).sum()
        if useless:
            self.found.left_out.append(
                f'{useless} of {len(survives)} masks without one polygon of three points'
            )
        for (rows, columns), places in self.coco.masks.items():
            numbers = np.frombuffer(places, np.int64)
            other = np.zeros(len(survives), bool)
            other[numbers] = (self.sizes[:, numbers] != [[columns], [rows]]).any(0)
            size = f'{rows}x{columns} px, which is not the size of its image'
            self.refuse(other, f'has a mask of {size}')

    def count(self) -> None:
        """Boxes by class, and the images that the host's filter_cfg leaves to a training."""
        coco, found = self.coco, self.found
        ids, counts = np.unique(self.table['category_id'][self.survives], return_counts=True)
        by_id = dict(zip(ids.tolist(), counts.tolist()))
        found.counts = {name: by_id.get(key, 0) for key, name in coco.categories.items()}
        filter_cfg = self.dataset.get('filter_cfg')
        if self.dataset.get('test_mode') or not filter_cfg:
            return
        annotated = set(self.table['image_id'].tolist())
        empty = set(coco.images) - annotated if filter_cfg.get('filter_empty_gt') else set()
        least = filter_cfg.get('min_size', 0)
        small = {key for key, (_, *size) in coco.images.items() if min(size) < least} - empty
        if empty:
            found.left_out.append(f'{len(empty)} images without a box')
        if small:
            found.left_out.append(f'{len(small)} images below {least} px')
        found.images -= len(empty) + len(small)
        if not found.images:
            raise UserError(
                f'{self.what}: no image stays, as filter_cfg leaves out '
                f'{", ".join(found.left_out)}; correct the file or {found.where}.filter_cfg'
            )

    def images(self, full: bool) -> None:
        """Images are there, and of the size that the file states."""
        dataset, found, where = self.dataset, self.found, self.found.where
        prefix = dataset.get('data_prefix') or {}
        if 'img' not in prefix:  # whatever else the host's default is for
            raise UserError(
                f"{where}.data_prefix has no 'img', the folder of the images: set it ('' if file "
                'names are whole paths)'
            )
        folder = osp.join(dataset.get('data_root') or '', prefix['img'])
        if ':' in folder or not has_image_files(dataset):
            return  # remote
        count = len(self.coco.images)
        sizes = {osp.join(folder, name): tuple(size) for name, *size in self.coco.images.values()}
        paths = list(sizes)
        if len(paths) < count:
            found.warnings.append(
                f'{count - len(paths)} of {count} images of {where} are the file of another: the '
                'boxes of each are missing in the other'
            )
        missing = missing_files(paths)
        if missing:
            hint = '; its name has backslashes, write / instead' if '\\' in missing[0] else ''
            raise UserError(
                f'{len(missing)} of {len(paths)} images that {self.what} names are not there, the '
                f"first is '{missing[0]}'{hint}; add them, take them out of the file or correct "
                f'{where}.data_prefix.img'
            )
        found.left_out += say_unread(folder, paths)
        looked_at = sample(paths, full)
        found.complete &= len(looked_at) == len(paths)
        unclear = 0
        headers: list[Header] = in_threads(read_header, looked_at, 'image headers')
        for path, header in zip(looked_at, headers):
            view = annotated_view(*header, sizes[path])
            unclear += view == UNCLEAR
            if view is None:
                raise UserError(
                    f"image '{path}' has {header.size[0]}x{header.size[1]} px, but {self.what} "
                    f'says {sizes[path][0]}x{sizes[path][1]}; boxes would not lie where the '
                    'objects are: correct the file or put the image it was made for'
                )
        if unclear:
            found.warnings.append(say_unclear(unclear, len(looked_at), where))
        found.files += [*folders_of(paths), *looked_at]
