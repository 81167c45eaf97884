import numpy as np
import pytest
from mmengine.registry import DefaultScope
from sklearn.datasets import load_digits

from mmtlalign.datasets import Digits


@pytest.mark.slow
def test_splits_share_nothing_and_cover_all():
    train, val = Digits(split='train'), Digits(split='val')
    assert (len(train), len(val)) == (1437, 360)
    images = {split[i]['img'].tobytes() for split in (train, val) for i in range(len(split))}
    # every digit is found once (scikit-learn's set has no duplicates)
    assert len(images) == 1797
    expected = np.bincount(load_digits().target) * 360 / 1797
    assert np.abs(np.bincount(val.get_gt_labels()) - expected).max() < 1


def test_images_are_the_enlarged_digits():
    """Averaged over 4x4 blocks, an image is the digit it was made from."""
    digits, labels = load_digits(return_X_y=True)
    val = Digits(split='val')
    assert val.metainfo['classes'] == tuple('0123456789')
    for i in range(0, 360, 40):
        sample = val[i]
        image = sample['img']
        assert image.shape == (32, 32, 3) and image.dtype == np.uint8
        assert (image == image[..., :1]).all()
        blocks = image[..., 0].reshape(8, 4, 8, 4).mean(axis=(1, 3))
        distance = np.abs(digits * 255 / 16 - blocks.ravel()).mean(axis=1)
        assert distance.min() < 16  # of 255; bicubic edges overshoot
        assert labels[distance.argmin()] == sample['gt_label']


def test_the_split_is_fixed_and_runs_the_hosts_pipeline():
    first = Digits(split='val')
    np.random.seed(7)  # a run's random state changes nothing
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        again = Digits(split='val', pipeline=[dict(type='PackInputs')])
        packed = again[5]
    np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0), first[5]['img'])
    assert packed['data_samples'].gt_label.tolist() == [first[5]['gt_label']]
    np.testing.assert_array_equal(first.get_gt_labels(), again.get_gt_labels())


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='test'.*'train', 'val'"):
        Digits(split='test')
