"""Objects of scenes as images of their own, with masks that say what is visible of them."""

import math
from collections import Counter
from collections.abc import Iterator

from mmengine.fileio import join_path
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from mmtlalign.errors import UserError
from mmtlalign.registry import DATASETS

from .coco_file import CocoFile, read_coco
from .transforms.load_object_crop import LoadObjectCrop

SHAPES = ('box', 'ellipse')
KEPT = ('id', 'image_id', 'category_id', 'bbox', 'iscrowd', 'segmentation')


@DATASETS.register_module()
class ObjectCrops(BaseDataset):
    """Squares around the annotated objects of scenes, one object each, with its mask.

    Reads annotations in COCO's format, with polygons or run lengths as masks. The pipeline begins
    with :class:`LoadObjectCrop`. Crowds, small objects and those outside their scene are left out,
    and their number is logged.

    A sample has ``img_path``, ``height`` and ``width`` of the scene, ``gt_label``, ``crop_box``
    (left, top, width and height in pixels, inside the scene) and ``object_shape``: a segmentation
    as in COCO's files, or ``(shape, bbox)``.

    Args:
        ann_file (str): A .json file with ``images``, ``annotations`` and ``categories``.
        context (float): Edge of the square over the longer edge of the object's box, at least 1; a
            square that would leave the scene is moved into it, and is no larger than the scene.
            Defaults to 1.5.
        min_size (float): Objects whose box has an edge of fewer pixels are left out. Defaults to
            16.
        shape (str, optional): What an object without a mask is taken for, 'box' or the 'ellipse'
            inside it: a guess, not a truth. Defaults to None, refuse such objects.
        **kwargs: Arguments of :class:`mmpretrain.datasets.BaseDataset`. With ``classes`` objects of
            other names are left out; without, labels follow the order of the file's categories.

    Attributes:
        left_out (str): How many objects are not read, and why, once annotations are; '' if all are.

    Raises:
        ValueError: An argument out of range, or a pipeline that begins with another step.
        UserError: A file of another format, unknown classes, objects without a mask, or none left.
    """

    def __init__(
        self,
        ann_file: str,
        context: float = 1.5,
        min_size: float = 16,
        shape: str | None = None,
        **kwargs,
    ) -> None:
        for name, value in dict(context=context, min_size=min_size).items():
            if type(value) not in (int, float) or not 1 <= value < math.inf:
                raise ValueError(f'{name}={value!r} must be a number of at least 1.')
        if shape not in (None, *SHAPES):
            raise ValueError(f'shape={shape!r} must be one of {SHAPES}, or None.')
        self.context, self.min_size, self.shape = context, min_size, shape
        super().__init__(ann_file=ann_file, **kwargs)

    def read_classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of labels."""
        self._number_classes(self._read([]))
        return self.CLASSES

    def load_data_list(self) -> list[dict]:
        """Where every object is, and what."""
        self._check_arguments()
        parts: list[dict] = []
        coco = self._read(parts)
        labels = self._number_classes(coco)
        why = [self._why_not(part, coco, labels) for part in parts]
        counts = Counter(filter(None, why))
        self.left_out = ', '.join(f'{count} {reason}' for reason, count in counts.items())
        kept = [part for part, reason in zip(parts, why) if not reason]
        if not kept:
            raise self._refuse(f'leaves no object to read: {self.left_out or "it has none"}')
        samples = [self._sample(part, coco, labels) for part in kept]
        said = f'{len(kept)} objects are read from {self.ann_file}'
        print_log(f'{said}; left out: {self.left_out or "nothing"}', logger='current')
        return samples

    def _check_arguments(self) -> None:
        steps = self.pipeline.transforms
        if steps and not isinstance(steps[0], LoadObjectCrop):
            raise ValueError(
                f'the pipeline begins with {type(steps[0]).__name__}, which reads whole scenes and '
                "calls them by one of their objects; begin with dict(type='mmtlalign."
                "LoadObjectCrop')."
            )
        if 'img_path' not in self.data_prefix:
            raise ValueError(
                f"data_prefix={self.data_prefix} has no 'img_path', the folder of the images."
            )

    def _read(self, parts: list[dict]) -> CocoFile:
        """The file, and its annotations into a list."""

        def keep(row: dict) -> None:
            parts.append({key: row.get(key) for key in KEPT})

        with open(self.ann_file, 'rb') as file:
            return read_coco(file, f"annotation file '{self.ann_file}'", keep)

    def _number_classes(self, coco: CocoFile) -> dict[int, int]:
        """Take the names from the file, unless the config chooses; labels by category."""
        ids = {name: key for key, name in coco.categories.items()}
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(ids)
        if isinstance(self.CLASSES, str):
            raise ValueError(f'classes={self.CLASSES!r} must be a list of names.')
        unknown = [name for name in self.CLASSES if name not in ids]
        if unknown:
            raise self._refuse(f'has no category {unknown[0]!r}, but {", ".join(ids)}')
        return {ids[name]: label for label, name in enumerate(self.CLASSES)}

    def _why_not(self, part: dict, coco: CocoFile, labels: dict[int, int]) -> str | None:
        """Why an object is left out; None if it is not."""
        for key, known in ('image_id', coco.images), ('category_id', coco.categories):
            if part[key] not in known:
                raise self._refuse(
                    f'has annotation {part["id"]} with the {key} {part[key]}, which is not there'
                )
        x, y, width, height = part['bbox']
        _, *size = coco.images[part['image_id']]
        if part['iscrowd']:
            return 'crowds'
        if part['category_id'] not in labels:
            return 'of other classes'
        if not (x < size[0] and y < size[1] and x + width > 0 and y + height > 0):
            return 'outside their image'
        return f'below {self.min_size} px' if min(width, height) < self.min_size else None

    def _sample(self, part: dict, coco: CocoFile, labels: dict[int, int]) -> dict:
        name, width, height = coco.images[part['image_id']]
        mask = part['segmentation']
        if isinstance(mask, dict) and None in (mask.get('size'), mask.get('counts')):
            mask = None  # to the host, too
        if isinstance(mask, dict) and mask['size'] != [height, width]:
            raise self._refuse(
                f'has annotation {part["id"]} with a mask of {mask["size"]} rows and columns, but '
                f'its image {name} has {[height, width]}'
            )
        if isinstance(mask, list):  # as the host, which drops others
            mask = [polygon for polygon in mask if len(polygon) >= 6 and len(polygon) % 2 == 0]
        if not mask and self.shape is None:
            raise self._refuse(
                f'has no mask of annotation {part["id"]} ({name}): take another file, or have '
                f'objects taken for something by shape= ({", ".join(SHAPES)})'
            )
        return dict(
            img_path=join_path(self.img_prefix, name),
            height=height,
            width=width,
            gt_label=labels[part['category_id']],
            crop_box=tuple(self._square(part['bbox'], (width, height))),
            object_shape=mask or (self.shape, part['bbox']),
        )

    def _square(self, box: list[float], size: tuple[int, int]) -> Iterator[int]:
        """Left and top, width and height, in pixels, of a box in a scene (width, height)."""
        edges = [round(min(self.context * max(box[2:]), length)) for length in size]
        for start, length, edge, end in zip(box[:2], box[2:], edges, size):
            yield round(min(max(start + (length - edge) / 2, 0), end - edge))
        yield from edges

    def _refuse(self, complaint: str) -> UserError:
        return UserError(f"annotation file '{self.ann_file}' {complaint}")
