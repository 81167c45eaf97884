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


@pytest.mark.slow
def test_split_is_fixed_and_balanced():
    first, again = Digits(split='val'), Digits(split='val')
    np.testing.assert_array_equal(first[0]['img'], again[0]['img'])
    labels = first.get_gt_labels()
    np.testing.assert_array_equal(labels, again.get_gt_labels())
    expected = np.bincount(load_digits().target) * 360 / 1797
    assert np.abs(np.bincount(labels) - expected).max() < 1
    # the split does not depend on the run's random state
    np.random.seed(7)
    np.testing.assert_array_equal(labels, Digits(split='val').get_gt_labels())


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


def test_runs_the_hosts_pipeline():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        sample = Digits(split='val', pipeline=[dict(type='PackInputs')])[5]
    assert sample['inputs'].shape == (3, 32, 32)
    assert sample['data_samples'].gt_label.shape == (1,)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='test'.*'train', 'val'"):
        Digits(split='test')
