"""Whether a COCO annotation file says what a config expects of it."""
import json
import os
from collections.abc import Iterator, Sequence

from mmengine.config import ConfigDict
from mmengine.fileio import list_from_file

from mmtlalign.errors import UserError


def check_coco(path: str, where: str, classes: list[str],
               annotated: bool = True) -> None:
    """Raise unless the file holds images, boxes and exactly these classes.

    The host numbers labels in the order of the file and not of the config,
    and leaves out names it does not find: a differing order trains on wrong
    labels, a misspelt name on none, both without a word.

    Args:
        path (str): Annotation file; it exists.
        where (str): Place of the dataset in the config, for messages.
        classes (list[str]): Names the config expects, in order.
        annotated (bool): Whether there must be annotations, which test files
            may lack. Defaults to True.

    Raises:
        UserError: Naming the file, what is wrong and what to do.
    """
    what = f"annotation file '{path}' ({where}.ann_file)"
    coco = _read(path, what)
    for key in ['images', 'categories'] + ['annotations'] * annotated:
        if not coco.get(key):
            raise UserError(f"{what} has no {key}: '{key}' is missing or "
                            'empty; is it the right file, in COCO format?')
    names = [category.get('name') for category in coco['categories']]
    if names != classes:
        raise UserError(
            f'{what} has the categories {names}, but the config expects '
            f'{classes}; labels are numbered in the order of the file, so '
            f'set {where}.metainfo.classes to its names in its order')


def _read(path: str, what: str) -> dict:
    """Parse the file; a UserError if that is impossible."""
    if not os.path.getsize(path):
        raise UserError(f'{what} is empty; get it again')
    try:
        with open(path, encoding='utf-8') as file:
            coco = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'{what} is no JSON ({error}); it must be in COCO '
                        'format, get it again') from None
    if not isinstance(coco, dict):
        raise UserError(f'{what} holds a {type(coco).__name__} and not the '
                        'object with images, annotations and categories that '
                        'the COCO format asks for')
    return coco


def expected_classes(dataset: ConfigDict, cls: type) -> list[str]:
    """Class names a dataset's config gives, or else its class.

    Args:
        dataset (ConfigDict): Config of one COCO dataset.
        cls (type): What its type stands for.

    Returns:
        list[str]: In the order the config counts on.
    """
    own = getattr(cls, 'METAINFO')
    classes: Sequence[str] = (dataset.get('metainfo') or {}).get(
        'classes', own.get('classes', ()))
    return list(list_from_file(classes) if isinstance(classes, str)
                else classes)


def check_num_classes(model: ConfigDict, classes: list[str],
                      where: str) -> None:
    """Raise if a head of a detector predicts another number of classes.

    Args:
        model (ConfigDict): Config of the model. Its box and mask heads are
            looked at, where they state ``num_classes``.
        classes (list[str]): Of the dataset.
        where (str): Place of the dataset in the config, for messages.

    Raises:
        UserError: Naming the head, both numbers and the remedy.
    """
    for place, num_classes in _heads(model, 'model'):
        if num_classes != len(classes):
            raise UserError(
                f'{place}.num_classes is {num_classes}, but {where} has '
                f'{len(classes)} classes ({", ".join(classes[:5])}'
                f'{", ..." * (len(classes) > 5)}); set it with --cfg-options '
                f'{place}.num_classes={len(classes)}')


def _heads(config: ConfigDict, place: str) -> Iterator[tuple[str, int]]:
    """Places and ``num_classes`` of box and mask heads, lists included."""
    for key, value in config.items():
        inner = f'{place}.{key}'
        children = [(inner, value)]
        if isinstance(value, (list, tuple)):
            children = [(f'{inner}.{i}', v) for i, v in enumerate(value)]
        for inner, child in children:
            if not isinstance(child, dict):
                continue
            if key in ('bbox_head', 'mask_head') and 'num_classes' in child:
                yield inner, child['num_classes']
            yield from _heads(child, inner)
