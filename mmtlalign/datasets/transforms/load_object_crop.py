"""One object of a scene, and which pixels show it."""

import numpy as np

from mmtlalign.errors import UserError
from mmtlalign.registry import TRANSFORMS

from ..object_mask import ObjectMask
from .load_annotated_image import LoadAnnotatedImage


@TRANSFORMS.register_module()
class LoadObjectCrop(LoadAnnotatedImage):
    """Read a scene and cut the object of a sample of :class:`ObjectCrops` out of it.

    Required keys: those of ``ObjectCrops``. Added: ``img``, ``img_shape``, ``ori_shape`` and
    ``object_mask`` (:class:`ObjectMask`), which ``PackInputs`` hands on with
    ``algorithm_keys=('object_mask', )``; only transforms of mmtlalign may move the image from here
    on. Crops have the sizes of their objects: resize them by ``mmtlalign.Resize`` or
    ``mmtlalign.RandomResizedCrop``.

    Args:
        **kwargs: Arguments of :class:`LoadAnnotatedImage`.
    """

    def transform(self, results: dict) -> dict | None:
        results = super().transform(results)
        if results is None:
            return None
        size = results['height'], results['width']
        if results['img'].shape[:2] != size:
            raise UserError(
                f'{results["img_path"]} has {results["img"].shape[:2]} pixels, but its annotations '
                f'are for {size}: they belong to another image'
            )
        left, top, width, height = results['crop_box']
        part = slice(top, top + height), slice(left, left + width)
        mask = self._draw(results, size)[part]
        if not mask.any():
            raise UserError(
                f'the mask of an object of {results["img_path"]} shows nothing inside its box: '
                'correct the annotation file'
            )
        image = np.ascontiguousarray(results['img'][part])
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        results['object_mask'] = ObjectMask(np.where(mask, 255, 0).astype(np.uint8))
        return results

    @staticmethod
    def _draw(results: dict, size: tuple[int, int]) -> np.ndarray:
        try:
            mask = draw(results['object_shape'], size)
            if mask.shape != size:
                raise ValueError(f'it is for {mask.shape} pixels, the image has {size}')
            return mask
        except UserError:
            raise
        except Exception as error:  # the library's own are of no kind
            raise UserError(
                f'the mask of an object of {results["img_path"]} cannot be read '
                f'({type(error).__name__}: {error}): correct the annotation file'
            ) from None


def draw(shape, size: tuple[int, int]) -> np.ndarray:
    """Which pixels an object covers, (H, W), uint8, 0 or 1.

    Args:
        shape (list | dict | tuple): Polygons or run lengths of COCO, or ``('box', bbox)``,
            ``('ellipse', bbox)``.
        size (tuple[int]): Rows and columns.
    """
    if isinstance(shape, tuple):
        return _draw_inside(*shape, size)
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise UserError(
            "COCO's masks are read by pycocotools, which is not installed: pip install pycocotools"
        ) from None
    if isinstance(shape, list) or isinstance(shape['counts'], list):
        shape = coco_mask.frPyObjects(shape, *size)
    if isinstance(shape, list):
        shape = coco_mask.merge(shape)
    return coco_mask.decode(shape)


def _draw_inside(kind: str, box: list[float], size: tuple[int, int]) -> np.ndarray:
    x, y, width, height = box
    if kind == 'box':
        mask = np.zeros(size, np.uint8)
        rows = slice(max(round(y), 0), max(round(y + height), 0))
        mask[rows, max(round(x), 0) : max(round(x + width), 0)] = 1
        return mask
    rows, cols = np.ogrid[0.5 : size[0], 0.5 : size[1]]  # middles of pixels
    across, down = 2 * (cols - x) / width - 1, 2 * (rows - y) / height - 1
    return (across**2 + down**2 <= 1).astype(np.uint8)
