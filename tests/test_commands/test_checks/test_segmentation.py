import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmtlalign.commands.checks import check_data
from mmtlalign.errors import UserError

from ...conftest import needs_operators

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


def all_maps(folder, labels):
    for i in range(60):
        write(folder, i, labels)


def test_not_one_pixel_that_counts(cfg, tmp_path):
    all_maps(tmp_path, [255] * 4)
    message = refused(cfg)
    assert 'not one pixel of the 60 label maps' in message
    assert 'all are 255, to ignore, in the files' in message


def test_one_pixel_in_a_map_that_is_not_among_the_first_read(cfg, tmp_path):
    all_maps(tmp_path, [255] * 4)
    read = set(np.linspace(0, 59, 50).astype(int).tolist())
    other = min(set(range(60)) - read)
    write(tmp_path, other, [255, 255, 1, 255])
    check_data(cfg, 'train')


def test_classes_that_reduce_zero_label_leaves_nothing_of(cfg, tmp_path):
    all_maps(tmp_path, [0, 0, 0, 255])
    cfg.train_dataloader.dataset.reduce_zero_label = True
    message = refused(cfg)
    assert 'BaseSegDataset has read them, with reduce_zero_label=True' in (
        message)
    assert f'{WHERE}.reduce_zero_label=False' in message


def test_own_classes_in_the_dataset_of_others(cfg, tmp_path):
    """As ADE20K's configs are used when only the folders are changed: 0, its
    wall, is left out by name, and 1 becomes 0 before."""
    cfg.train_dataloader.dataset.update(
        type='ADE20KDataset', metainfo=dict(classes=('road', 'river')))
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head[0]):
        head.num_classes = 2
    all_maps(tmp_path, [0, 1, 1, 255])
    message = refused(cfg)
    assert 'ADE20KDataset has read them, with reduce_zero_label=True' in (
        message)
    assert 'only those of its own classes that metainfo names' in message
    assert f'{WHERE}.type=BaseSegDataset' in message
    cfg.train_dataloader.dataset.update(
        type='BaseSegDataset', reduce_zero_label=False)
    check_data(cfg, 'train')


def test_classes_that_the_dataset_does_not_know(cfg):
    cfg.train_dataloader.dataset.type = 'ADE20KDataset'
    message = refused(cfg)
    assert 'ADE20KDataset, which has classes of its own' in message
    assert f'{WHERE}.type=BaseSegDataset' in message
