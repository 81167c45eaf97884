"""Objects of scenes as images of their own, with masks that say what is visible of them."""

from collections.abc import Iterator

import mmengine
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from mmtlalign.errors import UserError
from mmtlalign.registry import DATASETS

from .transforms.load_object_crop import LoadObjectCrop

SHAPES = ('box', 'ellipse')


@DATASETS.register_module()
class ObjectCrops(BaseDataset):
    """Squares around the annotated objects of scenes, one object each, with its mask.

    Reads annotations in COCO's format, with polygons or run lengths as masks. The pipeline begins
    with :class:`LoadObjectCrop`. Crowds and small objects are left out, and their number is logged.

    A sample has ``img_path``, ``height`` and ``width`` of the scene, ``gt_label``, ``crop_box``
    (left, top, width and height in pixels, inside the scene) and ``object_shape``: a segmentation
    as in COCO's files, or ``(shape, bbox)``.

    Args:
        ann_file (str): A .json file with ``images``, ``annotations`` and ``categories``.
        context (float): Edge of the square over the longer edge of the object's box, at least 1; a
            square that would leave the scene is moved into it, and is no larger than the scene.
            Defaults to 1.5.
        min_size (int): Objects whose box has an edge of fewer pixels are left out. Defaults to 16.
        shape (str, optional): What an object without a mask is taken for, 'box' or the 'ellipse'
            inside it: a guess, not a truth. Defaults to None, refuse such objects.
        **kwargs: Arguments of :class:`mmpretrain.datasets.BaseDataset`. With ``classes`` objects of
            other names are left out; without, labels follow the order of the file's categories.

    Attributes:
        left_out (str): How many objects are not read, and why, once annotations are.

    Raises:
        ValueError: An argument out of range, or a pipeline that begins with another step.
        UserError: A file of another format, unknown classes, objects without a mask, or none left.
    """

    def __init__(
        self,
        ann_file: str,
        context: float = 1.5,
        min_size: int = 16,
        shape: str | None = None,
        **kwargs,
    ) -> None:
        if context < 1:
            raise ValueError(f'context={context} must be at least 1, to show whole objects.')
        if min_size < 1:
            raise ValueError(f'min_size={min_size} must be at least 1.')
        if shape not in (None, *SHAPES):
            raise ValueError(f'shape={shape!r} must be one of {SHAPES}, or None.')
        self.context, self.min_size, self.shape = context, min_size, shape
        super().__init__(ann_file=ann_file, **kwargs)

    def read_classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of labels."""
        self._name_classes(self._read())
        return self.CLASSES

    def load_data_list(self) -> list[dict]:
        """Where every object is, and what."""
        steps = self.pipeline.transforms
        if steps and not isinstance(steps[0], LoadObjectCrop):
            raise ValueError(
                f'the pipeline begins with {type(steps[0]).__name__}, which reads whole scenes and '
                "calls them by one of their objects; begin with dict(type='mmtlalign."
                "LoadObjectCrop')."
            )
        coco = self._read()
        labels = self._name_classes(coco)
        try:
            samples = self._collect(coco, labels)
        except (KeyError, TypeError, ValueError) as error:
            raise self._refuse(f"is not in COCO's format ({type(error).__name__}: {error})")
        kept = f'{len(samples)} objects are read from {self.ann_file}'
        print_log(f'{kept}; left out: {self.left_out}', logger='current')
        if not samples:
            raise self._refuse(f'leaves no object to read: {self.left_out}')
        return samples

    def _read(self) -> dict:
        try:
            coco = mmengine.load(self.ann_file, file_format='json')
        except ValueError as error:
            raise self._refuse(f'is damaged ({error})') from None
        parts = ('images', 'annotations', 'categories')
        if not isinstance(coco, dict) or not all(isinstance(coco.get(k), list) for k in parts):
            raise self._refuse(f"is not in COCO's format: it must have the lists {parts}")
        return coco

    def _name_classes(self, coco: dict) -> dict[int, int]:
        """Take the names from the file, unless the config chooses; labels by category."""
        names = {part.get('name'): part.get('id') for part in coco['categories']}
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(names)
        unknown = [name for name in self.CLASSES if name not in names]
        if unknown:
            raise self._refuse(f'has no category {unknown[0]!r}, but {", ".join(map(str, names))}')
        return {names[name]: label for label, name in enumerate(self.CLASSES)}

    def _collect(self, coco: dict, labels: dict[int, int]) -> list[dict]:
        scenes = {scene['id']: scene for scene in coco['images']}
        samples, crowds, others, small = [], 0, 0, 0
        for part in coco['annotations']:
            if part.get('iscrowd'):
                crowds += 1
            elif part['category_id'] not in labels:
                others += 1
            elif min(part['bbox'][2:]) < self.min_size:
                small += 1
            else:
                samples.append(self._sample(part, scenes[part['image_id']], labels))
        self.left_out = f'{crowds} crowds, {others} of other classes, {small} small'
        return samples

    def _sample(self, part: dict, scene: dict, labels: dict[int, int]) -> dict:
        shape = part.get('segmentation')
        if not shape and self.shape is None:
            raise self._refuse(
                f'has no mask of annotation {part["id"]} ({scene["file_name"]}): take another '
                f'file, or have objects taken for something by shape= ({", ".join(SHAPES)})'
            )
        return dict(
            img_path=mmengine.fileio.join_path(self.img_prefix, scene['file_name']),
            height=scene['height'],
            width=scene['width'],
            gt_label=labels[part['category_id']],
            crop_box=tuple(self._square(part['bbox'], scene)),
            object_shape=shape or (self.shape, part['bbox']),
        )

    def _square(self, box: list[float], scene: dict) -> Iterator[int]:
        """Left and top, width and height, in pixels."""
        sizes = scene['width'], scene['height']
        edge = round(self.context * max(box[2:]))
        edges = [min(edge, size) for size in sizes]
        for start, length, edge, size in zip(box[:2], box[2:], edges, sizes):
            yield min(max(round(start + (length - edge) / 2), 0), size - edge)
        yield from edges

    def _refuse(self, complaint: str) -> UserError:
        return UserError(f"annotation file '{self.ann_file}' {complaint}")
