"""RGB from BGR, and back."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmtlalign.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SwapChannels(BaseTransform):
    """Reverse the channels of an image: RGB to BGR, or BGR to RGB.

    Right after ``LoadImageFromFile``, it gives files the channel order of data sets that hold RGB
    images in memory, such as CIFAR. Grey images stay as they are.

    Modified key: ``img``.
    """

    def transform(self, results: dict) -> dict:
        image = results['img']
        if image.shape[2:] == (3,):
            results['img'] = np.ascontiguousarray(image[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
