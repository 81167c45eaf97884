import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmtlalign.utils import UserError, check_data

from ..conftest import needs_operators

needs_operators()

WHERE = 'train_dataloader.dataset'


@pytest.fixture
def cfg(tmp_path):
    """Config of 60 images with 2x2 px label maps of three classes."""
    for folder in ('images', 'maps'):
        (tmp_path / folder).mkdir()
    for i in range(60):
        cv2.imwrite(str(tmp_path / f'images/{i:02d}.jpg'),
                    np.zeros((2, 2, 3), np.uint8))
        write(tmp_path, i, [0, 1, 2, 255])
    return Config(dict(
        default_scope='mmseg',
        model=dict(decode_head=dict(num_classes=3),
                   auxiliary_head=[dict(num_classes=3)]),
        train_cfg=dict(),
        train_dataloader=dict(dataset=dict(
            type='BaseSegDataset', data_root=str(tmp_path),
            data_prefix=dict(img_path='images', seg_map_path='maps'),
            metainfo=dict(classes=('a', 'b', 'c'))))))


def write(folder, i, labels):
    cv2.imwrite(str(folder / f'maps/{i:02d}.png'),
                np.array(labels, np.uint8).reshape(2, 2))


def refused(cfg):
    with pytest.raises(UserError) as error:
        check_data(cfg, 'train')
    message = str(error.value)
    assert WHERE in message and '\n' not in message
    return message


def test_good_data_pass(cfg):
    check_data(cfg, 'train')


def test_wrapped_data_are_checked(cfg, tmp_path):
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    write(tmp_path, 0, [0, 1, 2, 3])
    assert f'{WHERE}.dataset' in refused(cfg)


@pytest.mark.parametrize('i', [0, 59])
def test_class_that_does_not_exist(cfg, tmp_path, i):
    write(tmp_path, i, [0, 1, 2, 3])
    message = refused(cfg)
    assert f"{tmp_path}/maps/{i:02d}.png' " in message
    assert 'holds the class 3' in message and '3 classes, 0 to 2' in message


def test_labels_are_read_as_in_training(cfg, tmp_path):
    """A class to leave out counts as one less, as in ADE20K."""
    for i in range(60):
        write(tmp_path, i, [0, 1, 2, 3])
    cfg.train_dataloader.dataset.reduce_zero_label = True
    check_data(cfg, 'train')


@pytest.mark.parametrize('head, key', [
    ('decode_head', 'decode_head'), ('auxiliary_head', 'auxiliary_head')])
def test_wrong_number_of_classes(cfg, head, key):
    cfg.model[head] = dict(num_classes=150)
    message = refused(cfg)
    assert f'model.{key}.num_classes is 150' in message
    assert f'--cfg-options model.{key}.num_classes=3' in message


def test_missing_label_maps(cfg, tmp_path):
    for i in (7, 8):
        (tmp_path / f'maps/{i:02d}.png').unlink()
    message = refused(cfg)
    assert '2 of 60 images' in message and "maps/07.png'" in message
    assert 'seg_map_suffix' in message


def test_images_of_another_kind(cfg):
    cfg.train_dataloader.dataset.img_suffix = '.bmp'
    message = refused(cfg)
    assert "no image '*.bmp'" in message and '/images' in message


def test_damaged_label_map(cfg, tmp_path):
    (tmp_path / 'maps/00.png').write_bytes(b'no picture')
    assert "maps/00.png' " in refused(cfg)


def test_images_to_predict_only_need_no_label_maps(cfg):
    cfg.train_dataloader.dataset.data_prefix = dict(img_path='images')
    check_data(cfg, 'train')
