"""Planted digits are where their masks say, and nowhere twice."""

import mmcv
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from sklearn.datasets import load_digits

from mmtlalign.datasets import PlantedDigits

DIGITS, LABELS = load_digits(return_X_y=True)


def arrays(dataset):
    samples = [dataset[i] for i in range(len(dataset))]
    return (
        np.stack([sample['img'] for sample in samples]),
        np.stack([sample['object_mask'].pixels for sample in samples]),
        [sample['gt_label'] for sample in samples],
    )


def trimmed(ink):
    """What is drawn, without the empty rows and columns around it."""
    rows, cols = np.nonzero(ink)
    part = ink[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    return part.shape, part.tobytes()


@pytest.mark.slow
def test_masks_are_the_ink_of_digits_of_that_label():
    images, masks, labels = arrays(PlantedDigits('val', 12, object_size=12))
    assert images.shape == (12, 32, 32, 3) and images.dtype == np.uint8
    assert (images == images[..., :1]).all()
    drawn = [mmcv.imresize(digit.reshape(8, 8) / 16, (12, 12)) for digit in DIGITS]
    known = {trimmed(np.rint(255 * ink).astype(np.uint8)): k for ink, k in zip(drawn, LABELS)}
    for image, mask, label in zip(images[..., 0], masks, labels):
        assert known[trimmed(mask)] == label
        assert (image >= mask).all()
        assert (image[mask == 255] == 255).all()
        # clutter shines through where there is half of the ink
        assert image[mask == 0].std() > 20 and image[mask == 0].max() < 235


@pytest.mark.slow
def test_splits_share_no_digit():
    found = {}
    for split, count in (('train', 1000), ('val', 397), ('test', 400)):
        _, masks, labels = arrays(PlantedDigits(split, count, object_size=8, image_size=8))
        # a digit as large as the image: the mask is the digit
        found[split] = {mask.tobytes() for mask in masks}
        assert len(found[split]) == count
        expected = np.bincount(LABELS) * count / 1797
        assert np.abs(np.bincount(labels) - expected).max() < 2
    assert len(set.union(*found.values())) == 1797


@pytest.mark.slow
def test_arguments_alone_decide():
    first = arrays(PlantedDigits('train', 8))
    np.random.seed(3)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        step = dict(type='PackInputs', algorithm_keys=('object_mask',))
        again = PlantedDigits('train', 8, pipeline=[step])
        packed = [again[i] for i in range(8)]
    other = arrays(PlantedDigits('train', 8, seed=1))
    for i, sample in enumerate(packed):
        np.testing.assert_array_equal(sample['inputs'].permute(1, 2, 0), first[0][i])
        np.testing.assert_array_equal(sample['data_samples'].object_mask.pixels, first[1][i])
        assert sample['data_samples'].gt_label.item() == first[2][i]
    for one, two in zip(first[:2], other[:2]):
        assert not np.array_equal(one, two)


def test_more_images_than_digits_repeat_them_elsewhere():
    images, masks, labels = arrays(PlantedDigits('val', 397 + 20, object_size=8, image_size=24))
    assert labels[397:] == labels[:20]
    assert not (masks[397:] == masks[:20]).all((1, 2)).any()
    assert len({image.tobytes() for image in images}) == 417


def test_several_objects_hide_nothing():
    dataset = PlantedDigits('val', 30, num_objects=3, object_size=10)
    single = DIGITS.sum(1).min() / 16 * (10 / 8) ** 2
    for i in range(len(dataset)):
        sample = dataset[i]
        labels, score = sample['gt_label'], sample['gt_score']
        assert len(set(labels)) == 3
        np.testing.assert_array_equal(np.flatnonzero(score), labels)
        # the ink of three digits, none of which covers another
        assert sample['object_mask'].pixels.sum() / 255 > 2.5 * single


def test_clutter():
    images, masks, _ = arrays(PlantedDigits('val', 4, clutter=0.0))
    np.testing.assert_array_equal(images[..., 0], masks)


def test_places_reach_all_edges():
    _, masks, _ = arrays(PlantedDigits('test', 400, object_size=8, image_size=16))
    seen = masks.max(0) > 0
    assert seen[2:-2, 2:-2].all()
    for edge in (seen[0], seen[-1], seen[:, 0], seen[:, -1]):
        assert edge.any()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(split='all'), "split='all'.*'train', 'val', 'test'"),
        (dict(num_images=0), 'num_images=0'),
        (dict(num_objects=11), 'num_objects=11.*10'),
        (dict(clutter=1.5), 'clutter=1.5'),
        (dict(object_size=40), 'object_size=40.*to 32'),
        (dict(object_size=17, num_objects=2), 'object_size=17.*to 16'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PlantedDigits(**{'split': 'val', 'num_images': 5, **arguments})
