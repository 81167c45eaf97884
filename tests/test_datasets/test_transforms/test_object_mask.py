"""Masks from files, and what may not be done with them."""

import mmcv
import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from mmpretrain.utils import register_all_modules
from PIL import Image

from mmtlalign.errors import UserError


@pytest.fixture(autouse=True, scope='module')
def host_scope():
    register_all_modules(init_default_scope=False)


@pytest.mark.parametrize(
    'kind, arguments',
    [
        ('RandomCrop', dict(pad_if_needed=True)),
        ('RandomCrop', dict(padding=2, padding_mode='reflect')),
        ('CenterCrop', dict(auto_pad=True, pad_cfg=dict(type='Pad', padding_mode='edge'))),
    ],
)
def test_padding_with_the_image_is_refused(kind, arguments):
    with pytest.raises(ValueError, match='padding'):
        TRANSFORMS.build(dict(type=f'mmtlalign.{kind}', crop_size=8, **arguments))


@pytest.fixture
def load(tmp_path):
    """Reads a mask of an image whose map is made of an array."""

    def run(labels, mode='L', **arguments):
        image = Image.fromarray(np.array(labels, np.uint8))
        if mode == 'P':  # as those of VOC
            image.putpalette(list(range(255, -1, -1)) * 3)
        image.save(tmp_path / 'cat.png')
        step = dict(type='mmtlalign.LoadObjectMask', folder=str(tmp_path), **arguments)
        results = dict(img=np.zeros((*np.shape(labels), 3)), img_path='images/cat.jpg')
        pixels = TRANSFORMS.build(step)(results)['object_mask'].pixels
        assert pixels.dtype == np.uint8
        return pixels.tolist()

    return run


def test_label_maps(load):
    labels = [[0, 1, 2], [3, 255, 1]]
    assert load(labels, values=(1, 3)) == [[0, 255, 0], [255, 0, 255]]
    for mode in 'LP':
        assert load(labels, mode) == [[0, 255, 255], [255, 0, 255]]


def test_maps_that_do_not_fit_are_refused(tmp_path):
    transform = TRANSFORMS.build(dict(type='mmtlalign.LoadObjectMask', folder=str(tmp_path)))
    # commands, once imported, tell both in their own words
    with pytest.raises((FileNotFoundError, UserError), match='a/bird.jpg has no mask .*bird.png'):
        transform(dict(img=np.zeros((2, 2, 3)), img_path='a/bird.jpg'))
    mmcv.imwrite(np.zeros((2, 5), np.uint8), str(tmp_path / 'bird.png'))
    with pytest.raises((ValueError, UserError), match=r'\(2, 5\), .* \(2, 2\) pixels'):
        transform(dict(img=np.zeros((2, 2, 3)), img_path='a/bird.jpg'))
