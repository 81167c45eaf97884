"""Look at a segmentation data set before training on it."""

import os.path as osp
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from PIL import Image
from torch.utils.data import Dataset

from mmtlalign.datasets.orientation import UNCLEAR, annotated_view
from mmtlalign.errors import UserError, first_line

from .class_names import check_heads
from .findings import Findings
from .images import folders_of, missing_files, read_header, sample, say_unclear, say_unread
from .progress import in_threads

SAMPLE = 200  # label maps read unless all are to be


def look_at_label_maps(
    where: str, dataset: ConfigDict, cfg: Config, full: bool = False
) -> Findings:
    """Read label maps as they are stored, and the headers of their images.

    Every label map must exist; some of them, evenly spread, are read, and if none of their pixels
    counts, all (``full``: in any case). The host would fail later, without the name of the file,
    or train on nothing.

    Raises:
        UserError: Naming the file or number, the limit, and what to do.
    """
    with DefaultScope.overwrite_default_scope('mmseg'):
        built = _build(dataset, where)
    infos = [built.get_data_info(i) for i in range(len(built))]
    folder = built.data_prefix['img_path']
    if not infos:
        raise UserError(
            f"dataset folder '{folder}' ({where}) has no image '*{built.img_suffix}': set "
            f"{where}.img_suffix to the images' ending, or put them there"
        )
    images = [info['img_path'] for info in infos]
    found = Findings(where, len(infos), 'pixels', files=folders_of(images))
    found.files += [built.ann_file] * bool(built.ann_file)
    _check_present(images, where, 'img_suffix')
    found.left_out += say_unread(folder, images)
    if 'seg_map_path' not in infos[0]:
        return found  # images to predict only
    maps = [info['seg_map_path'] for info in infos]
    _check_present(maps, where, 'seg_map_suffix')
    found.left_out += say_unread(built.data_prefix['seg_map_path'], maps, 'label maps')
    check_heads(cfg, built.metainfo.get('classes', ()), where)
    pairs = list(zip(images, maps))
    looked_at = sample(pairs, full, SAMPLE)
    _count_pixels(built, dataset, pairs, looked_at, found)
    found.complete = len(looked_at) == len(pairs)
    found.files += [*folders_of(maps), *(path for pair in looked_at for path in pair)]
    return found


def _build(dataset: ConfigDict, where: str) -> Dataset:
    """The dataset, without a pipeline; its classes are those it can have."""
    try:
        # an empty list cannot be serialized
        return DATASETS.build({**dataset, 'pipeline': [], 'serialize_data': False})
    except ValueError as error:
        if 'subset' not in str(error):
            raise
        raise UserError(
            f'{where}.type is {dataset["type"]}, which has classes of its own '
            f'and reads no others ({error}); for own data set {where}.type='
            f'BaseSegDataset and {where}.reduce_zero_label=False'
        ) from None


def _check_present(paths: list[str], where: str, key: str) -> None:
    missing = missing_files(paths)
    if missing:
        lack = 'have no label map' if key == 'seg_map_suffix' else 'are not there'
        raise UserError(
            f'{len(missing)} of {len(paths)} images of {where} {lack}; the first is '
            f"'{missing[0]}': add them, or set {where}.{key} to their ending"
        )


def _count_pixels(
    built: Dataset, dataset: ConfigDict, pairs: list, looked_at: list, found: Findings
) -> None:
    """Pixels by class, as the host will number them."""
    classes = list(built.metainfo.get('classes', ()))
    becomes = _host_labels(built, dataset)
    look_at = partial(_look_at_pair, found.where, becomes, len(classes), built.ignore_index)
    unclear, counts = 0, np.zeros(256, np.int64)
    for is_unclear, pixels in in_threads(look_at, looked_at, 'label maps'):
        unclear, counts = unclear + is_unclear, counts + pixels
    if not counts[becomes != built.ignore_index].any():
        rest = sorted(set(pairs) - set(looked_at))
        if not any(
            pixels[becomes != built.ignore_index].any()
            for _, pixels in in_threads(look_at, rest, 'more label maps')
        ):
            raise UserError(_why_nothing_counts(built, found.where))
    for i, name in enumerate(classes):
        found.counts[str(name)] = int(counts[becomes == i].sum())
    if unclear:
        found.warnings.append(say_unclear(unclear, len(looked_at), found.where))


def _host_labels(built: Dataset, dataset: ConfigDict) -> np.ndarray:
    """(256,): what the host makes of each stored value."""
    steps = dataset.get('pipeline') or ()
    loads = [step for step in steps if str(step['type']).endswith('LoadAnnotations')]
    with TemporaryDirectory() as folder:
        path = osp.join(folder, 'values.png')
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        Image.fromarray(values).save(path)
        with DefaultScope.overwrite_default_scope('mmseg'):
            load = TRANSFORMS.build(loads[0] if loads else dict(type='LoadAnnotations'))
        info = {**built.get_data_info(0), 'seg_map_path': path}
        return load(info)['gt_seg_map'].reshape(-1)


def _look_at_pair(
    where: str, becomes: np.ndarray, num_classes: int, ignored: int, pair: tuple[str, str]
) -> tuple[bool, np.ndarray]:
    """An image and its label map, of which each stored value ``becomes`` (256,) a class: whether
    the orientation is unclear, and how often each value is there, (256,)."""
    image, path = pair

    def refuse(complaint: str) -> UserError:
        return UserError(f"label map '{path}' ({where}) {complaint}")

    try:
        with Image.open(path) as file:
            stored = np.asarray(file)
    except Exception as error:  # reading garbage can raise anything
        raise refuse(f'cannot be read ({first_line(error)}): replace it') from None
    if stored.ndim != 2:
        channels = stored.shape[2] if stored.ndim == 3 else stored.shape
        only = 'it must have one, whose values are the classes: convert it'
        raise refuse(f'has {channels} channels; {only}')
    height, width = stored.shape
    header = read_header(image)
    view = annotated_view(*header, (width, height))
    if view is None:
        size = 'x'.join(map(str, header.size))
        said = f"has {width}x{height} px, but its image '{image}' {size}: make them the same"
        raise refuse(said)
    if stored.dtype.kind == 'b':
        stored = stored.astype(np.uint8)
    if stored.dtype.kind not in 'ui' or stored.min() < 0 or (stored.max() > 255):
        raise refuse(
            f'holds values from {stored.min()} to {stored.max()} ({stored.dtype}), but the '
            'host keeps 8 bits of them, 0 to 255: renumber the classes'
        )
    counts = np.bincount(stored.ravel(), minlength=256)
    wrong = np.flatnonzero((counts > 0) & (becomes != ignored) & (becomes >= num_classes))
    if len(wrong):
        raise refuse(
            f'holds the class {becomes[wrong[0]]}, but the dataset has '
            f'{num_classes} classes, 0 to {num_classes - 1} (and {ignored} to '
            f'ignore): correct the file, or the classes in {where}.metainfo'
        )
    return view == UNCLEAR, counts


def _why_nothing_counts(dataset: Dataset, where: str) -> str:
    """What turns every pixel of every label map into one to ignore."""
    message = (
        f'not one pixel of the {len(dataset)} label maps of {where} '
        f'counts: all are {dataset.ignore_index}, to ignore, '
    )
    if not (dataset.reduce_zero_label or dataset.label_map):
        return message + 'in the files; correct these'
    own = 'only those of its own classes that metainfo names'
    return message + (
        f'once {type(dataset).__name__} has read them, with reduce_zero_label='
        f'{dataset.reduce_zero_label} (True makes 1 the first class and ignores 0) and '
        f'{own if dataset.label_map else "all of its classes"}; for own data set '
        f'{where}.type=BaseSegDataset and {where}.reduce_zero_label=False'
    )
