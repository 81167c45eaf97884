"""Look at a segmentation data set before training on it."""
import os.path as osp
from collections.abc import Callable

import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from torch.utils.data import Dataset

from mmtlalign.errors import UserError

NUM_LOOKED_AT = 50  # label maps


def check_label_maps(where: str, dataset: ConfigDict,
                     model: ConfigDict) -> None:
    """Raise if images or label maps are missing or classes do not fit.

    Every label map must exist; up to 50 of them, evenly spread, are read, and
    if none of their pixels counts, as many more as it takes to find one. The
    host would fail later, without the name of the file, or train on nothing.
    Remote data are not checked.

    Args:
        where (str): Place of the dataset in the config, for messages.
        dataset (ConfigDict): An mmseg dataset without wrappers.
        model (ConfigDict): Says how many classes the heads tell apart.

    Raises:
        UserError: Naming the file or number, the limit, and what to do.
    """
    if ':' in (dataset.get('data_root') or ''):
        return
    with DefaultScope.overwrite_default_scope('mmseg'):
        built = _build(dataset, where)
        load = TRANSFORMS.build(dict(type='LoadAnnotations'))
    infos = [built.get_data_info(i) for i in range(len(built))]
    if not infos:
        raise UserError(
            f"dataset folder '{built.data_prefix['img_path']}' ({where}) has "
            f"no image '*{built.img_suffix}': set {where}.img_suffix to the "
            "images' ending, or put them there")
    if 'seg_map_path' not in infos[0]:
        return  # images to predict only
    missing = [info for info in infos if not osp.isfile(info['seg_map_path'])]
    if missing:
        raise UserError(
            f'{len(missing)} of {len(infos)} images of {where} have no label '
            f"map; the first is '{missing[0]['seg_map_path']}': add them, or "
            f'set {where}.seg_map_suffix to their ending')
    num_classes = len(built.metainfo.get('classes', ()))
    _check_heads(model, num_classes, where)
    spread = np.linspace(0, len(infos) - 1, min(len(infos), NUM_LOOKED_AT))
    counting = [_check_labels(infos[i], load, built, num_classes, where)
                for i in np.unique(spread.astype(int))]
    if not any(counting) and not any(
            _check_labels(info, load, built, num_classes, where)
            for info in infos):
        raise UserError(_why_nothing_counts(built, where))


def _build(dataset: ConfigDict, where: str) -> Dataset:
    """The dataset, without a pipeline; its classes are those it can have."""
    try:
        # an empty list cannot be serialized
        return DATASETS.build(
            {**dataset, 'pipeline': [], 'serialize_data': False})
    except ValueError as error:
        if 'subset' not in str(error):
            raise
        raise UserError(
            f"{where}.type is {dataset['type']}, which has classes of its own "
            f'and reads no others ({error}); for own data set {where}.type='
            f'BaseSegDataset and {where}.reduce_zero_label=False') from None


def _why_nothing_counts(dataset: Dataset, where: str) -> str:
    """What turns every pixel of every label map into one to ignore."""
    message = (f'not one pixel of the {len(dataset)} label maps of {where} '
               f'counts: all are {dataset.ignore_index}, to ignore, ')
    if not (dataset.reduce_zero_label or dataset.label_map):
        return message + 'in the files; correct these'
    return message + (
        f'once {type(dataset).__name__} has read them, with reduce_zero_label='
        f'{dataset.reduce_zero_label} (True makes 1 the first class and '
        'ignores 0) and '
        + ('only those of its own classes that metainfo names'
           if dataset.label_map else 'all of its classes')
        + f'; for own data set {where}.type=BaseSegDataset and '
        f'{where}.reduce_zero_label=False')


def _check_heads(model: ConfigDict, num_classes: int, where: str) -> None:
    """Compare the classes of the dataset with those of every head."""
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name) or []
        for head in heads if isinstance(heads, list) else [heads]:
            if head.get('num_classes', num_classes) != num_classes:
                raise UserError(
                    f'model.{name}.num_classes is {head.num_classes}, but '
                    f'{where} has {num_classes} classes: set it with '
                    f'--cfg-options model.{name}.num_classes={num_classes}')


def _check_labels(info: dict, load: Callable, dataset: Dataset,
                  num_classes: int, where: str) -> bool:
    """Read one label map as training will and look at its values; whether
    any of its pixels counts."""
    path = info['seg_map_path']
    try:
        loaded = load(info)
    except OSError as error:
        raise UserError(f"label map '{path}' ({where}) cannot be read "
                        f'({error}): replace it') from None
    labels = np.unique(loaded['gt_seg_map'])
    wrong = labels[(labels >= num_classes) & (labels != dataset.ignore_index)]
    if len(wrong):
        raise UserError(
            f"label map '{path}' ({where}) holds the class {wrong[0]}, but "
            f'the dataset has {num_classes} classes, 0 to {num_classes - 1} '
            f'(and {dataset.ignore_index} to ignore): correct the file, or '
            f'the classes in {where}.metainfo')
    return bool((labels != dataset.ignore_index).any())
