"""Whether a COCO annotation file says what a config expects of it."""

import os.path as osp

import numpy as np
from mmengine.config import ConfigDict

from mmtlalign.datasets.orientation import UNCLEAR, annotated_view
from mmtlalign.errors import UserError

from .coco import NO_MASK, USELESS_MASK, CocoFile, read_coco
from .findings import Findings
from .images import (
    count_unread,
    folders_of,
    missing_files,
    read_headers,
    sample,
    say_unclear,
    say_unread,
)
from .paths import has_image_files


def look_at_coco(
    where: str,
    dataset: ConfigDict,
    path: str,
    classes: list[str],
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
        where (str): Place of the data set in the config.
        dataset (ConfigDict): One whose images are files here.
        path (str): Its annotation file; it exists.
        classes (list[str]): Names the config expects, in order.
        evaluated, with_masks (bool): What the file, and its masks, are for.
        full (bool): Read all headers, not a sample.

    Raises:
        UserError: Naming the file, the record and what to do.
    """
    what = f"annotation file '{path}' ({where}.ann_file)"
    coco = read_coco(path, what)
    annotated = where[:4] != 'test'  # else it may be for a server
    for key, there in (
        ('images', coco.images),
        ('categories', coco.categories),
        ('annotations', len(coco.table['id'])),
    ):
        if not there and (key != 'annotations' or annotated):
            raise UserError(
                f"{what} has no {key}: '{key}' is missing or "
                'empty; is it the right file, in COCO format?'
            )
    names = list(coco.categories.values())
    if names != classes:
        raise UserError(
            f'{what} has the categories {names}, but the config expects '
            f'{classes}; labels are numbered in the order of the file, so '
            f'set {where}.metainfo.classes to its names in its order'
        )
    found = Findings(where, len(coco.images), 'boxes', files=[path])
    _check_ids(coco, what)
    survives = survivors(coco)
    _check_boxes(coco, survives, what, found)
    if evaluated:
        _refuse(
            coco, coco.table['crowd'] < 0, what, "has no 'iscrowd', which scores are computed with"
        )
    if with_masks:
        _check_masks(coco, survives, what, found)
    found.counts = _count(coco, survives)
    _leave_out_images(coco, dataset, what, found)
    _check_images(where, dataset, coco, what, found, full)
    return found


def survivors(coco: CocoFile) -> np.ndarray:
    """(N,), bool: the annotations that the host's data set does not drop."""
    table = coco.table
    x, y, w, h = (table[key] for key in 'xywh')
    width, height = _sizes(coco)
    inside_w = np.minimum(x + w, width) - np.maximum(x, 0)
    inside_h = np.minimum(y + h, height) - np.maximum(y, 0)
    return (
        (inside_w > 0)
        & (inside_h > 0)
        & (w >= 1)
        & (h >= 1)
        & (table['area'] > 0)
        & (table['ignore'] == 0)
    )


def _sizes(coco: CocoFile) -> np.ndarray:
    """(2, N): width and height of the image of each annotation."""
    ids = np.array(sorted(coco.images), np.int64)
    sizes = np.array([coco.images[key][1:] for key in ids.tolist()])
    rows = np.searchsorted(ids, coco.table['image_id'].astype(np.int64))
    return sizes[rows].T if len(rows) else np.zeros((2, 0))


def _refuse(coco: CocoFile, wrong: np.ndarray, what: str, complaint: str) -> None:
    """Raise if there are such annotations, naming the first and their number."""
    if wrong.any():
        first = int(coco.table['id'][np.flatnonzero(wrong)[0]])
        raise UserError(
            f'{what}: annotation {first} {complaint} ({int(wrong.sum())} of {len(wrong)} '
            'annotations); correct the file'
        )


def _check_ids(coco: CocoFile, what: str) -> None:
    """Annotations belong to an image and a category, and to no other's id."""
    table = coco.table
    _refuse(
        coco,
        table['id'] <= 0,
        what,
        'has an id that is not positive, and counts as no match in scores',
    )
    order = np.argsort(table['id'], kind='stable')
    twice = np.zeros(len(order), bool)
    twice[order[1:]] = np.diff(table['id'][order]) == 0
    _refuse(coco, twice, what, 'has an id that another one has')
    for key, known in (('image_id', coco.images), ('category_id', coco.categories)):
        unknown = ~np.isin(table[key], np.array(list(known), np.int64))
        first = ', '.join(map(str, table[key][unknown][:1].tolist()))
        ids = ', '.join(map(str, list(known)[:5])) + ', ...' * (len(known) > 5)
        _refuse(coco, unknown, what, f'has the {key} {first}, which is none of the ids {ids}')


def _check_boxes(coco: CocoFile, survives: np.ndarray, what: str, found: Findings) -> None:
    """Boxes that the host drops are counted; at least one must stay."""
    dropped = ~survives & (coco.table['ignore'] == 0)
    if not survives.any():
        _refuse(
            coco,
            ~survives,
            what,
            'has a box that lies outside its image, is below 1 px or has no area, and is left '
            'out, as all are',
        )
    for count, why in (
        (dropped.sum(), 'outside the image, below 1 px or of no area'),
        ((coco.table['ignore'] != 0).sum(), "to 'ignore'"),
    ):
        if count:
            found.left_out.append(f'{count} of {len(survives)} boxes {why}')
    x, y, w, h = (coco.table[key] for key in 'xywh')
    width, height = _sizes(coco)
    beyond = survives & ((x < -1) | (y < -1) | (x + w > width + 1) | (y + h > height + 1))
    if beyond.sum() > survives.sum() / 2:
        found.warnings.append(
            f'{beyond.sum()} of {len(survives)} boxes of {found.where} reach beyond their image, '
            'as they do where x, y of both corners are taken for x, y, width, height'
        )


def _check_masks(coco: CocoFile, survives: np.ndarray, what: str, found: Findings) -> None:
    """What a mask head is trained on is there and of the image's size."""
    _refuse(
        coco,
        survives & (coco.table['mask'] == NO_MASK),
        what,
        "has no 'segmentation', and masks are trained or evaluated: train a detector without "
        "a mask head, leave 'segm' out of the evaluator's metric, or",
    )
    useless = survives & (coco.table['mask'] == USELESS_MASK)
    if useless.any():
        found.left_out.append(
            f'{useless.sum()} of {len(survives)} masks without one polygon of three points'
        )
    sizes = _sizes(coco)
    for (rows, columns), numbers in coco.masks.items():
        numbers = np.frombuffer(numbers, np.int64)
        other = np.zeros(len(survives), bool)
        other[numbers] = (sizes[:, numbers] != [[columns], [rows]]).any(0)
        size = f'{rows}x{columns} px, which is not the size of its image'
        _refuse(coco, other, what, f'has a mask of {size}')


def _count(coco: CocoFile, survives: np.ndarray) -> dict[str, int]:
    ids, counts = np.unique(coco.table['category_id'][survives], return_counts=True)
    counts = dict(zip(ids.tolist(), counts.tolist()))
    return {name: counts.get(key, 0) for key, name in coco.categories.items()}


def _leave_out_images(coco: CocoFile, dataset: ConfigDict, what: str, found: Findings) -> None:
    """Count the images that the host's filter_cfg drops from training."""
    filter_cfg = dataset.get('filter_cfg')
    if dataset.get('test_mode') or not filter_cfg:
        return
    annotated = set(coco.table['image_id'].tolist())
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
            f'{what}: no image stays, as filter_cfg leaves out {", ".join(found.left_out)}; '
            f'correct the file or {found.where}.filter_cfg'
        )


def _check_images(
    where: str, dataset: ConfigDict, coco: CocoFile, what: str, found: Findings, full: bool
) -> None:
    """Images are there, and of the size that the file states."""
    prefix = dataset.get('data_prefix') or {}
    if 'img' not in prefix:  # whatever else the host's default is for
        raise UserError(
            f"{where}.data_prefix has no 'img', the folder of the "
            "images: set it ('' if file names are whole paths)"
        )
    folder = osp.join(dataset.get('data_root') or '', prefix['img'])
    if ':' in folder or not has_image_files(dataset):
        return  # remote
    paths = {osp.join(folder, name): size for name, *size in coco.images.values()}
    if len(paths) < len(coco.images):
        found.warnings.append(
            f'{len(coco.images) - len(paths)} of {len(coco.images)} images of {where} are the file '
            'of another: the boxes of each are missing in the other'
        )
    missing = missing_files(list(paths))
    if missing:
        hint = '; its name has backslashes, write / instead' if '\\' in missing[0] else ''
        raise UserError(
            f'{len(missing)} of {len(paths)} images that {what} names are '
            f"not there, the first is '{missing[0]}'{hint}; add them, take "
            f'them out of the file or correct {where}.data_prefix.img'
        )
    found.left_out += say_unread(count_unread(folder, list(paths)), folder, len(paths))
    looked_at = sample(list(paths), full)
    found.complete &= len(looked_at) == len(paths)
    unclear = 0
    for path, header in zip(looked_at, read_headers(looked_at)):
        view = annotated_view(*header, tuple(paths[path]))
        unclear += view == UNCLEAR
        if view is None:
            raise UserError(
                f"image '{path}' has {header.size[0]}x{header.size[1]} px, but {what} says "
                f'{paths[path][0]}x{paths[path][1]}; boxes would not lie where the objects are: '
                'correct the file or put the image it was made for'
            )
    if unclear:
        found.warnings.append(say_unclear(unclear, len(looked_at), where))
    found.files += [*folders_of(paths), *looked_at]
