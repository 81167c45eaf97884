"""Masks move as images do: the image is its own mask, and stays so."""

import mmcv
import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from mmpretrain.utils import register_all_modules
from PIL import Image

from mmtlalign.datasets import ObjectMask
from mmtlalign.errors import UserError


@pytest.fixture(autouse=True, scope='module')
def host_scope():
    register_all_modules(init_default_scope=False)


def blob(rows=40, cols=52):
    """A smooth mask, nowhere alike, that is also the image."""
    y, x = np.mgrid[:rows, :cols]
    grey = 255 * np.exp(-(((y - 14) / 9) ** 2) - ((x - 30) / 13) ** 2)
    grey[5:9, 10:20] = 180
    grey = np.rint(grey).astype(np.uint8)
    return dict(img=np.repeat(grey[..., None], 3, 2), object_mask=ObjectMask(grey))


STEPS = dict(
    flip=dict(type='RandomFlip', prob=1.0),
    flip_vertical=dict(type='RandomFlip', prob=1.0, direction='vertical'),
    flip_both=dict(type='RandomFlip', prob=1.0, direction='diagonal'),
    flip_perhaps=dict(type='RandomFlip', prob=0.5),
    shift=dict(type='RandomCrop', crop_size=(40, 52), padding=6),
    shift_unevenly=dict(type='RandomCrop', crop_size=30, padding=(1, 7, 3, 2)),
    shift_sideways=dict(type='RandomCrop', crop_size=(40, 52), padding=(6, 2)),
    crop=dict(type='RandomCrop', crop_size=28),
    resized_crop=dict(type='RandomResizedCrop', scale=24),
    rotate=dict(type='Rotate', angle=20.0, prob=1.0, pad_val=0, interpolation='bilinear'),
    shear=dict(type='Shear', magnitude=0.2, prob=1.0, pad_val=0, interpolation='bilinear'),
    translate=dict(type='Translate', magnitude=0.2, prob=1.0, pad_val=0, interpolation='bilinear'),
)


@pytest.mark.parametrize('name', STEPS)
def test_mask_follows(name):
    step = STEPS[name]
    transform = TRANSFORMS.build({**step, 'type': f'mmtlalign.{step["type"]}'})
    moved = 0
    for seed in range(8):
        np.random.seed(seed)
        results = transform(blob())
        mask, image = results['object_mask'].pixels, results['img'][..., 0]
        assert mask.dtype == np.uint8
        gap = np.abs(mask.astype(int) - image)
        # rotation centres and rounding differ by parts of a pixel
        assert gap.max() <= (40 if step['type'] == 'Rotate' else 3), seed
        assert gap.mean() < 1
        moved += image.shape != (40, 52) or (image != blob()['img'][..., 0]).any()
    assert moved


def test_rand_augment_carries_masks():
    transform = TRANSFORMS.build(
        dict(
            type='mmtlalign.RandAugment',
            num_policies=1,
            magnitude_level=10,
            policies=[dict(type='Shear', magnitude=0.3, prob=1.0, pad_val=0)],
        )
    )
    np.random.seed(0)
    results = transform(blob())
    gap = np.abs(results['object_mask'].pixels.astype(int) - results['img'][..., 0])
    assert gap.mean() < 2 and (results['img'] != blob()['img']).any()


@pytest.mark.parametrize(
    'arguments', [dict(pad_if_needed=True), dict(padding=2, padding_mode='reflect')]
)
def test_padding_with_the_image_is_refused(arguments):
    with pytest.raises(ValueError, match='padding'):
        TRANSFORMS.build(dict(type='mmtlalign.RandomCrop', crop_size=8, **arguments))


def test_nothing_is_modified_in_place():
    mask = blob()['object_mask']
    before = mask.pixels.copy()
    for moved in (
        mask.flipped('horizontal'),
        mask.cropped(-3, 2, 20, 20, (20, 20)),
        mask.warped(np.array([[1, 0, 3], [0, 1, 0.0]])),
    ):
        moved.pixels[:] = 7
    np.testing.assert_array_equal(mask.pixels, before)
    assert mask.image_size == (40, 52)


def load(folder, labels, **arguments):
    """A label map from its file; the image is of its size."""
    mmcv.imwrite(labels, str(folder / 'maps/cat.png'))
    image = np.zeros((*labels.shape, 3), np.uint8)
    return TRANSFORMS.build(
        dict(type='mmtlalign.LoadObjectMask', folder=str(folder / 'maps'), **arguments)
    )(dict(img=image, img_path='images/cat.jpg'))


def test_label_maps(tmp_path):
    labels = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)
    trimap = load(tmp_path, labels, values=(1, 3))['object_mask'].pixels
    assert trimap.dtype == np.uint8
    assert trimap.tolist() == [[0, 255, 0], [255, 0, 255]]
    instances = load(tmp_path, labels)['object_mask'].pixels
    assert instances.tolist() == [[0, 255, 255], [255, 0, 255]]


def test_palettes_are_read_as_values(tmp_path):
    """As those of VOC."""
    (tmp_path / 'maps').mkdir()
    image = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8), 'P')
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / 'maps/dog.png')
    transform = TRANSFORMS.build(
        dict(type='mmtlalign.LoadObjectMask', folder=str(tmp_path / 'maps'))
    )
    found = transform(dict(img=np.zeros((2, 2, 3)), img_path='dog.jpg'))
    assert found['object_mask'].pixels.tolist() == [[0, 255], [255, 0]]


def test_maps_that_do_not_fit_are_refused(tmp_path):
    transform = TRANSFORMS.build(dict(type='mmtlalign.LoadObjectMask', folder=str(tmp_path)))
    # commands, once imported, tell both in their own words
    with pytest.raises((FileNotFoundError, UserError), match='a/bird.jpg has no mask .*bird.png'):
        transform(dict(img=np.zeros((2, 2, 3)), img_path='a/bird.jpg'))
    mmcv.imwrite(np.zeros((2, 5), np.uint8), str(tmp_path / 'bird.png'))
    with pytest.raises((ValueError, UserError), match=r'\(2, 5\), .* \(2, 2\) pixels'):
        transform(dict(img=np.zeros((2, 2, 3)), img_path='a/bird.jpg'))
