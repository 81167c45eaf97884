"""Look at a segmentation data set before training on it."""
import os.path as osp
from collections.abc import Callable

import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from torch.utils.data import Dataset

from .errors import UserError

NUM_LOOKED_AT = 50  # label maps


def check_label_maps(where: str, dataset: ConfigDict,
                     model: ConfigDict) -> None:
    """Raise if images or label maps are missing or classes do not fit.

    Every label map must exist; up to 50 of them, evenly spread, are read. The
    host would fail later, without the name of the file. Remote data are not
    checked.

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
        # an empty list cannot be serialized
        built = DATASETS.build(
            {**dataset, 'pipeline': [], 'serialize_data': False})
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
    for i in np.unique(spread.astype(int)):
        _check_labels(infos[i], load, built, num_classes, where)


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
                  num_classes: int, where: str) -> None:
    """Read one label map as training will and look at its values."""
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
