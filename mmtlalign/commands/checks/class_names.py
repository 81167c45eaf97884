"""Whether all that numbers classes means the same ones."""

import os.path as osp
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.fileio import list_from_file

from mmtlalign.config_nodes import walk
from mmtlalign.errors import UserError


def stated_classes(dataset: ConfigDict, cls: type | None) -> list | None:
    """Names that a data set's config states, or else its class.

    They come in the order of labels; None where neither does.
    """
    classes = (dataset.get('metainfo') or {}).get('classes', dataset.get('classes'))
    if classes is None:
        classes = getattr(cls, 'METAINFO', {}).get('classes')
    if isinstance(classes, str):
        if not osp.isfile(classes):
            raise UserError(
                f'metainfo.classes is {classes!r}, which is no file: give a list of names, of one, '
                f'too ([{classes!r}])'
            )
        return list_from_file(classes)
    if isinstance(classes, (set, frozenset, dict)):  # of any order
        raise UserError(f'metainfo.classes is a {type(classes).__name__}: give a list of names')
    return None if classes is None else list(classes)


def difference(one: Sequence[str], other: Sequence[str], where: str, elsewhere: str) -> str | None:
    """The first difference of two lists of names, in words."""
    if list(one) == list(other):
        return None
    for i, (a, b) in enumerate(zip(one, other)):
        if a != b:
            return f'class {i} is {a!r} in {where} and {b!r} in {elsewhere}'
    return f'{len(one)} classes in {where}, {len(other)} in {elsewhere}'


def check_heads(cfg: Config, names: Sequence[str], where: str) -> None:
    """Raise a UserError if a part of the model is for another number of classes."""
    for place, count in numbered_parts(cfg):
        if count != len(names):
            few = ', '.join(map(str, names[:5])) + ', ...' * (len(names) > 5)
            raise UserError(
                f'{place}.num_classes is {count}, but {where} has {len(names)} classes ({few}): '
                f'set it with --cfg-options {place}.num_classes={len(names)}'
            )


# Keys of a model's config, by task, whose num_classes is that of the data.
PARTS = dict(
    mmdet=('bbox_head', 'mask_head'),
    mmseg=('decode_head', 'auxiliary_head'),
    mmpretrain=('head', 'loss', 'data_preprocessor'),
)


def numbered_parts(cfg: Config) -> Iterator[tuple[str, int]]:
    """Places in the config and ``num_classes`` of the parts of a model."""
    names = PARTS[task_of(cfg)]
    parts = {key: cfg.get(key) for key in ('model', 'data_preprocessor')}
    nodes: Iterator[tuple[str, Any]] = walk(parts)
    for where, count in nodes:
        place, _, key = where.rpartition('.')
        kind = re.sub(r'\.\d+$', '', place).rpartition('.')[2]  # that of a list of heads
        if key == 'num_classes' and count is not None and kind in names:
            yield place, count


def task_of(cfg: Config) -> str:
    """The host that a config is for; mmpretrain unless it says so."""
    scope = cfg.get('default_scope')
    return scope if scope in PARTS else 'mmpretrain'


def check_trained_classes(
    trained: Sequence[str] | None, path: str, names: Sequence[str] | None, where: str
) -> None:
    """Raise a UserError if a checkpoint's classes are not those of the data at
    ``where``; nothing is compared where either is None."""
    if trained is None or names is None:
        return
    found = difference(trained, names, f"checkpoint '{path}'", where)
    if found:
        raise UserError(
            f'{found}, so that predictions would be read as other classes: give the checkpoint '
            'of these classes, or set metainfo.classes to its names in its order'
        )


def classes_in(checkpoint: dict) -> list[str] | None:
    """Names that a checkpoint says it was trained on, if it does."""
    meta = checkpoint.get('meta') or {}
    named = meta.get('dataset_meta') or meta
    classes = isinstance(named, dict) and named.get('classes', named.get('CLASSES'))
    return list(classes) if isinstance(classes, (list, tuple)) else None


def warn_of_start(
    trained: Sequence[str] | None, path: str, names: Sequence[str] | None, where: str
) -> str | None:
    """The warning on weights that a training begins with, where all names of classes are others, as
    in transfer; where some are the same, but not all in their order, it is a UserError."""
    if trained is None or names is None or list(trained) == list(names):
        return None
    if set(trained) & set(names) and len(trained) == len(names):
        check_trained_classes(trained, path, names, where)
    return (
        f"checkpoint '{path}' was trained on other classes than {where} "
        'has; what its head has learnt of them is of no use here'
    )
