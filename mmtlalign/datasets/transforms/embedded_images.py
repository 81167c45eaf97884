"""Images that come with their data set's tables, not as files."""

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile


class LoadEmbeddedImage(LoadImageFromFile):
    """The stock ``LoadImageFromFile`` where the file is in memory already.

    It decodes ``img_bytes`` as the parent does what it reads, and reads
    ``img_path`` where there are none. A data set puts it in the place of the
    parent, so that pipelines, and what is derived from them, name the parent.

    Required Keys:

    - img_bytes, or img_path
    """

    def transform(self, results: dict) -> dict | None:
        """Adds ``img``, ``img_shape`` and ``ori_shape``; drops the bytes."""
        if 'img_bytes' not in results:
            return super().transform(results)
        content = results.pop('img_bytes')
        img = (
            mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
            if content
            else None
        )
        if img is None and self.ignore_empty:
            return None
        assert img is not None, f'failed to load image: {results["img_path"]}'
        if self.to_float32:
            img = img.astype(np.float32)
        results.update(img=img, img_shape=img.shape[:2], ori_shape=img.shape[:2])
        return results
