"""Images the way up that their annotations are."""

import os.path as osp
from io import BytesIO

from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from PIL import Image

from mmtlalign.registry import TRANSFORMS

from ..orientation import TURNED, UNCLEAR, annotated_view, orientation_of, turned


@TRANSFORMS.register_module()
class LoadAnnotatedImage(LoadImageFromFile):
    """The host's ``LoadImageFromFile`` for detection and segmentation.

    The host turns every image as its EXIF orientation says, but neither its boxes nor its masks.
    This one gives the pixels as stored, unless the size that the annotation file states, or that of
    the label map, is the one of the turned image. Where no annotation tells its size, images are
    turned, as people see them.

    Required keys: ``img_path``; if there, ``height`` and ``width``, or
    ``seg_map_path``. Added and modified keys: those of the host's.

    Args:
        apply_tag (bool): Turn images also where the size fits both views
            (orientations 2 to 4, and square images). Defaults to False.
        **kwargs: Arguments of the host's transform.
    """

    def __init__(self, apply_tag: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.apply_tag = apply_tag
        if self.color_type in ('color', 'grayscale'):
            self.color_type += '_ignore_orientation'

    def transform(self, results: dict) -> dict | None:
        orientation = self._orientation(results)
        results = super().transform(results)
        if results is not None and orientation > 1:
            image = turned(results['img'], orientation)
            results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results

    def _orientation(self, results: dict) -> int:
        """EXIF's, if the annotation is of the turned image or there is none; else 1."""
        annotated = self._annotated_size(results)
        try:
            with self._open(results['img_path']) as image:
                orientation, size = orientation_of(image), image.size
        except Exception:  # the host names what it cannot read
            return 1
        if annotated is None:
            return orientation
        view = annotated_view(size, orientation, annotated)
        if view == TURNED or view == UNCLEAR and self.apply_tag:
            return orientation
        return 1

    def _annotated_size(self, results: dict) -> tuple[int, int] | None:
        """Width and height of what the annotation is of."""
        if results.get('seg_map_path') and 'height' not in results:
            try:
                with self._open(results['seg_map_path']) as label_map:
                    return label_map.size
            except Exception:  # as above
                return None
        if results.get('height') and results.get('width'):
            return results['width'], results['height']
        return None

    def _open(self, path: str) -> Image.Image:
        """Read a header, of a remote file with all the rest."""
        if osp.isfile(path):
            return Image.open(path)
        return Image.open(BytesIO(get(path, backend_args=self.backend_args)))

    def __repr__(self) -> str:
        return f'{super().__repr__()[:-1]}, apply_tag={self.apply_tag})'
