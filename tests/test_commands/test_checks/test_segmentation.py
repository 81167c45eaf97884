import re

import cv2
import numpy as np
import pytest
from PIL import Image

from mmtlalign.commands.checks import check_data, report, segmentation

from ...conftest import needs_operators
from .conftest import config, refused

needs_operators()

WHERE = 'train_dataloader.dataset'


@pytest.fixture
def cfg(tmp_path):
    """Config of 12 images with 2x2 px label maps of three classes."""
    for folder in ('images', 'maps'):
        (tmp_path / folder).mkdir()
    for i in range(12):
        cv2.imwrite(str(tmp_path / f'images/{i:02d}.jpg'), np.zeros((2, 2, 3), np.uint8))
    write_all(tmp_path, [0, 1, 2, 255])
    heads = dict(decode_head=dict(num_classes=3), auxiliary_head=[dict(num_classes=3)])
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='maps'),
        metainfo=dict(classes=('a', 'b', 'c')),
    )
    return config('mmseg', heads, train=dataset)


def write(folder, i, labels):
    array = np.array(labels, np.uint8).reshape(2, 2)
    Image.fromarray(array).save(folder / f'maps/{i:02d}.png')


def write_all(folder, labels):
    for i in range(12):
        write(folder, i, labels)


def test_wrapped_data_are_checked(cfg, tmp_path):
    check_data(cfg, 'train')
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset
    )
    write(tmp_path, 11, [0, 1, 2, 3])
    message = refused(cfg)
    assert f"{tmp_path}/maps/11.png' ({WHERE}.dataset) holds the class 3" in message
    assert '3 classes, 0 to 2' in message


@pytest.mark.parametrize('head', ['decode_head', 'auxiliary_head'])
def test_wrong_number_of_classes(cfg, head):
    cfg.model[head] = dict(num_classes=150)
    message = refused(cfg)
    assert f'model.{head}.num_classes is 150' in message and WHERE in message
    assert f'--cfg-options model.{head}.num_classes=3' in message


def test_files_that_are_not_there_or_damaged(cfg, tmp_path):
    (tmp_path / 'maps/00.png').write_bytes(b'no picture')
    assert "maps/00.png' " in refused(cfg)
    for i in (7, 8):
        (tmp_path / f'maps/{i:02d}.png').unlink()
    message = refused(cfg)
    assert '2 of 12 images' in message and "maps/07.png'" in message
    assert 'seg_map_suffix' in message
    cfg.train_dataloader.dataset.img_suffix = '.bmp'
    message = refused(cfg)
    assert "no image '*.bmp'" in message and '/images' in message


def test_images_to_predict_only_need_no_label_maps(cfg, tmp_path):
    """Of a list that is read again when it has changed."""
    cfg.train_dataloader.dataset.update(ann_file='list.txt', data_prefix=dict(img_path='images'))
    for count in (3, 2):
        (tmp_path / 'list.txt').write_text('\n'.join(f'{i:02d}' for i in range(count)))
        assert [found.images for found in check_data(cfg, 'train')] == [count]


def test_not_one_pixel_that_counts(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, 'SAMPLE', 5)
    write_all(tmp_path, [255] * 4)
    message = refused(cfg)
    assert 'not one pixel of the 12 label maps' in message
    assert 'all are 255, to ignore, in the files' in message
    # one in a map that is not among the first read is enough
    write(tmp_path, 1, [255, 255, 1, 255])
    check_data(cfg, 'train')

    write_all(tmp_path, [0, 0, 0, 255])
    cfg.train_dataloader.dataset.reduce_zero_label = True
    message = refused(cfg)
    assert 'BaseSegDataset has read them, with reduce_zero_label=True' in message
    assert f'{WHERE}.reduce_zero_label=False' in message
    # a class to leave out counts as one less, as in ADE20K
    write_all(tmp_path, [0, 1, 2, 3])
    check_data(cfg, 'train')


def test_own_classes_in_the_dataset_of_others(cfg, tmp_path):
    """As ADE20K's configs are used when only the folders are changed: 0, its
    wall, is left out by name, and 1 becomes 0 before."""
    cfg.train_dataloader.dataset.type = 'ADE20KDataset'
    message = refused(cfg)
    assert 'ADE20KDataset, which has classes of its own' in message
    assert f'{WHERE}.type=BaseSegDataset' in message
    cfg.train_dataloader.dataset.metainfo = dict(classes=('road', 'river'))
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head[0]):
        head.num_classes = 2
    write_all(tmp_path, [0, 1, 1, 255])
    message = refused(cfg)
    assert 'ADE20KDataset has read them, with reduce_zero_label=True' in message
    assert 'only those of its own classes that metainfo names' in message
    assert f'{WHERE}.type=BaseSegDataset' in message
    cfg.train_dataloader.dataset.update(type='BaseSegDataset', reduce_zero_label=False)
    check_data(cfg, 'train')


VALUES = np.array([[0, 1], [2, 255]], np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    'array, complaint',
    [
        (np.dstack([VALUES] * 3), 'has 3 channels'),
        (np.dstack([VALUES, VALUES]), 'has 2 channels'),
        (VALUES.astype(np.uint16) + 256, r'values from 256 to 511 .*8 bits'),
        (VALUES.astype(np.int32) - 1, r'values from -1 to 254 '),
        (VALUES.astype(np.float32), r'\(float32\)'),
        (np.zeros((2, 3), np.uint8), r"3x2 px, but its image '.*07.jpg' 2x2"),
    ],
)
def test_values_are_judged_as_they_are_stored(cfg, tmp_path, array, complaint):
    kind = 'PNG' if array.dtype.itemsize < 4 else 'TIFF'
    Image.fromarray(array).save(tmp_path / 'maps/07.png', kind)
    said = refused(cfg)
    assert re.search(complaint, said) and "maps/07.png' " in said


@pytest.mark.parametrize('kind', ['palette', np.uint16, bool])
def test_ways_to_store_that_are_sound(cfg, tmp_path, kind):
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    if kind == 'palette':
        picture = Image.fromarray(labels).convert('P')
        picture.putpalette([0, 0, 0, 255, 0, 0] + [0] * 750)
        picture.putdata(labels.ravel().tolist())
    else:
        picture = Image.fromarray(labels.astype(kind))
    for i in range(12):
        picture.save(tmp_path / f'maps/{i:02d}.png')
    (found,) = check_data(cfg, 'train')
    assert found.counts == dict(a=24, b=24, c=0)


def test_what_is_left_out_is_counted(cfg, tmp_path):
    write_all(tmp_path, [0, 0, 1, 255])
    for i in (5, 77):
        write(tmp_path, i, [1, 1, 1, 1])
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'images/more{i}.png'), np.zeros((2, 2, 3), np.uint8))
    (tmp_path / 'images/._00.jpg').write_bytes(b'fork')
    (found,) = check_data(cfg, 'train')
    assert found.images == 12 and found.counts == dict(a=22, b=15, c=0)
    assert found.left_out == [
        f'3 of 15 images in {tmp_path}/images (3 .png)',
        f'1 of 13 label maps in {tmp_path}/maps (1 .png)',
    ]
    assert found.all_warnings() == [f'1 of 3 classes of {WHERE} are in no annotation: c']


def test_a_sample_says_nothing_of_unused_classes(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, 'SAMPLE', 5)
    write_all(tmp_path, [0, 0, 1, 1])
    write(tmp_path, 1, [0, 1, 2, 7])
    (found,) = check_data(cfg, 'train')
    assert not found.complete and sum(found.counts.values()) == 20
    assert list(report([found]))[1:] == [
        'per class: train 20 pixels of a sample in 3 classes (a 10, b 10, c 0)',
        'left out: train nothing',
    ]
    assert re.search('01.png.*holds the class 7', refused(cfg, full=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    'orientation, map_is_turned, unclear',
    [(1, False, 0), (3, False, 1), (6, False, 0), (6, True, 0), (1, True, None), (3, True, None)],
)
def test_orientation_of_images(cfg, tmp_path, orientation, map_is_turned, unclear):
    """On images of 4x2 px with maps of either view, or of neither."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    labels = np.tile(np.arange(2, dtype=np.uint8), 4).reshape((4, 2) if map_is_turned else (2, 4))
    for i in range(12):
        Image.new('RGB', (4, 2)).save(tmp_path / f'images/{i:02d}.jpg', exif=tags)
        Image.fromarray(labels).save(tmp_path / f'maps/{i:02d}.png')
    if unclear is None:
        assert '2x4 px, but its image' in refused(cfg)
    else:
        (found,) = check_data(cfg, 'train')
        assert len(found.warnings) == unclear
