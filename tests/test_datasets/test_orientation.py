"""All eight orientations of EXIF, on an image whose corners tell them."""

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from PIL import Image, ImageOps

from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.datasets import LoadAnnotatedImage
from mmtlalign.errors import UserError

WIDE, SQUARE = (60, 40), (40, 40)
each_orientation = pytest.mark.parametrize('orientation', range(1, 9))


@pytest.fixture
def image(tmp_path):
    """Writes an image with a tag; gives its path, and stored and turned BGR."""

    def make(orientation, size=WIDE, suffix='.png'):
        width, height = size
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[: height // 2, : width // 2] = 255, 0, 0
        pixels[height // 2 :, : width // 2] = 0, 255, 0
        pixels[: height // 2, width // 2 :] = 0, 0, 255
        tags = Image.Exif()
        tags[0x0112] = orientation
        path = tmp_path / f'{orientation}-{width}{suffix}'
        Image.fromarray(pixels).save(path, exif=tags, quality=95)
        turned = np.asarray(ImageOps.exif_transpose(Image.open(path)))
        return (str(path), np.asarray(Image.open(path))[..., ::-1], turned[..., ::-1])

    return make


def same(one, other):
    """But for what decoders of JPEG differ in."""
    return one.shape == other.shape and np.abs(one.astype(int) - other.astype(int)).mean() < 3


@pytest.mark.parametrize('suffix, backend', [('.jpg', 'cv2'), ('.png', 'pillow'), ('.webp', 'cv2')])
@each_orientation
def test_annotations_are_of_what_is_loaded(image, tmp_path, orientation, backend, suffix):
    path, stored, turned = image(orientation, suffix=suffix)
    load = LoadAnnotatedImage(imdecode_backend=backend)

    def loaded(**annotation):
        results = load(dict(img_path=path, **annotation))
        assert results['ori_shape'] == results['img'].shape[:2]
        return results['img']

    def label_map(view):
        Image.fromarray(view[..., 0]).save(tmp_path / 'map.png')
        return str(tmp_path / 'map.png')

    if orientation > 4:
        assert same(loaded(width=40, height=60), turned)
        assert same(loaded(seg_map_path=label_map(turned)), turned)
    assert same(loaded(seg_map_path=label_map(stored)), stored)
    # without an annotation as people see it, and as the host's loader has it for classification
    assert same(loaded(), turned)
    assert same(LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=path))['img'], turned)
    assert same(loaded(width=60, height=40), stored)  # other calls leave nothing behind


@each_orientation
@pytest.mark.parametrize('size', [WIDE, SQUARE])
def test_the_tag_is_applied_where_asked(image, orientation, size):
    path, stored, turned = image(orientation, size)
    results = dict(img_path=path, width=size[0], height=size[1])
    assert same(LoadAnnotatedImage()(dict(results))['img'], stored)
    is_unclear = size == SQUARE or orientation < 5
    asked = LoadAnnotatedImage(apply_tag=True)(dict(results))['img']
    assert same(asked, turned if is_unclear else stored)


def test_a_damaged_tag_and_no_image(tmp_path):
    load, path = LoadAnnotatedImage(), tmp_path / 'a.jpg'
    Image.new('RGB', (6, 4)).save(path, exif=b'Exif\0\0MM\0*bad')
    assert load(dict(img_path=str(path), width=6, height=4))['img'].shape == (4, 6, 3)
    path.write_bytes(b'no image')
    # an AssertionError of the host, which commands tell in their own words
    with pytest.raises((AssertionError, UserError), match='failed to load image'):
        load(dict(img_path=str(path), width=1, height=1))


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_runs_read_with_it(scope):
    steps = [dict(type='mmcv.LoadImageFromFile'), dict(type='Resize')]
    dataset = dict(type='RepeatDataset', dataset=dict(type='CustomDataset', pipeline=steps))
    loader = dict(dataset=dataset)
    tta = [dict(type='LoadImageFromFile')]
    cfg = Config(dict(default_scope=scope, tta_pipeline=tta, train_dataloader=loader))
    use_own_loaders(cfg)
    inner = cfg.train_dataloader.dataset.dataset
    is_dense = scope != 'mmpretrain'
    own = 'mmtlalign.LoadAnnotatedImage'
    assert inner.pipeline[0].type == (own if is_dense else 'mmcv.LoadImageFromFile')
    assert inner.type == ('CustomDataset' if is_dense else 'mmtlalign.CustomDataset')
    assert (cfg.tta_pipeline[0].type == own) is is_dense
    use_own_loaders(cfg, apply_exif=True)
    assert ('apply_tag' in inner.pipeline[0]) is is_dense
