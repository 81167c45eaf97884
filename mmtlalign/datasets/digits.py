import mmcv
import numpy as np
from mmpretrain.datasets import BaseDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mmtlalign.registry import DATASETS


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 handwritten digits that come with scikit-learn.

    They are grey, 8x8 px with values 0 to 16, and become uint8 images of
    32x32x3 (bicubic). One fixed split, equal in class frequencies, holds out
    360 of them; it does not depend on the seed of a run.

    Args:
        split (str): 'train' (1,437 digits) or 'val' (360 digits).
        **kwargs: Arguments of :class:`mmpretrain.datasets.BaseDataset`
            other than those that name files.

    Raises:
        ValueError: If ``split`` is neither of the two.
    """

    METAINFO = dict(classes=tuple('0123456789'))
    SPLITS = ('train', 'val')

    def __init__(self, split: str, **kwargs) -> None:
        if split not in self.SPLITS:
            raise ValueError(f'split={split!r} is unknown: Digits has the splits {self.SPLITS}')
        self.split = split
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Upscaled images (32, 32, 3) and labels of the split."""
        digits, labels = load_digits(return_X_y=True)
        indices = train_test_split(
            np.arange(len(labels)), test_size=360, random_state=0, stratify=labels
        )[self.SPLITS.index(self.split)]
        pixels = np.rint(digits * 255 / 16).astype(np.uint8)
        samples = []
        for i in indices:
            grey = mmcv.imresize(pixels[i].reshape(8, 8), (32, 32), interpolation='bicubic')
            samples.append(dict(img=np.repeat(grey[..., None], 3, 2), gt_label=int(labels[i])))
        return samples

    def extra_repr(self) -> list[str]:
        """The split, instead of the file names the host would print."""
        return [f'Split: \t{self.split}']
