"""Object masks from files."""

from pathlib import Path

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from mmtlalign.registry import TRANSFORMS

from ..object_mask import ObjectMask


@TRANSFORMS.register_module()
class LoadObjectMask(BaseTransform):
    """Read which pixels of an image show its object from a label map.

    Label maps are image files of one channel, one for each image, by its name
    in a folder of their own: Oxford Pets' trimaps (the animal has value 1, its
    outline 3), VOC's ``SegmentationObject`` or ``SegmentationClass``, maps of
    CamVid. Comes right after the image was loaded.

    Required keys: ``img`` and ``img_path``. Added: ``object_mask`` (:class:`ObjectMask`), which
    ``PackInputs`` hands on with ``algorithm_keys=('object_mask', )``; only transforms of mmtlalign
    may move the image from here on.

    Args:
        folder (str): Of the label maps, all in it.
        values (Sequence[int], optional): What the object has in a map.
            Defaults to None: everything but 0, and 255, which is often void.
        suffix (str): Of their names. Defaults to '.png'.
    """

    def __init__(self, folder: str, values=None, suffix: str = '.png') -> None:
        self.folder = Path(folder)
        self.values = None if values is None else tuple(values)
        self.suffix = suffix

    def transform(self, results: dict) -> dict:
        path = self.folder / (Path(results['img_path']).stem + self.suffix)
        if not path.is_file():
            raise FileNotFoundError(
                f'{results["img_path"]} has no mask {path}; see folder= and '
                'suffix= of LoadObjectMask.'
            )
        labels = mmcv.imread(path, flag='unchanged', backend='pillow')
        size = results['img'].shape[:2]
        if labels.shape != size:
            raise ValueError(
                f'{path} is of shape {labels.shape}, but its image of {size} '
                'pixels; a mask has one channel and the size of its image.'
            )
        shown = (
            np.isin(labels, self.values)
            if self.values is not None
            else (labels != 0) & (labels != 255)
        )
        results['object_mask'] = ObjectMask(255 * shown.astype(np.uint8))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(folder={str(self.folder)!r}, '
            f'values={self.values}, suffix={self.suffix!r})'
        )
