import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmtlalign.commands.checks import check_data, report, segmentation
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
        cv2.imwrite(str(tmp_path / f'images/{i:02d}.jpg'), np.zeros((2, 2, 3), np.uint8))
        write(tmp_path, i, [0, 1, 2, 255])
    return Config(
        dict(
            default_scope='mmseg',
            model=dict(decode_head=dict(num_classes=3), auxiliary_head=[dict(num_classes=3)]),
            train_cfg=dict(),
            train_dataloader=dict(
                dataset=dict(
                    type='BaseSegDataset',
                    data_root=str(tmp_path),
                    data_prefix=dict(img_path='images', seg_map_path='maps'),
                    metainfo=dict(classes=('a', 'b', 'c')),
                )
            ),
        )
    )


def write(folder, i, labels):
    cv2.imwrite(str(folder / f'maps/{i:02d}.png'), np.array(labels, np.uint8).reshape(2, 2))


def refused(cfg):
    with pytest.raises(UserError) as error:
        check_data(cfg, 'train')
    message = str(error.value)
    assert WHERE in message and '\n' not in message
    return message


def test_wrapped_data_are_checked(cfg, tmp_path):
    check_data(cfg, 'train')
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset
    )
    write(tmp_path, 59, [0, 1, 2, 3])
    message = refused(cfg)
    assert f"{tmp_path}/maps/59.png' ({WHERE}.dataset) holds the class 3" in message
    assert '3 classes, 0 to 2' in message


def test_labels_are_read_as_in_training(cfg, tmp_path):
    """A class to leave out counts as one less, as in ADE20K."""
    for i in range(60):
        write(tmp_path, i, [0, 1, 2, 3])
    cfg.train_dataloader.dataset.reduce_zero_label = True
    check_data(cfg, 'train')


@pytest.mark.parametrize('head', ['decode_head', 'auxiliary_head'])
def test_wrong_number_of_classes(cfg, head):
    cfg.model[head] = dict(num_classes=150)
    message = refused(cfg)
    assert f'model.{head}.num_classes is 150' in message
    assert f'--cfg-options model.{head}.num_classes=3' in message


def test_files_that_are_not_there_or_damaged(cfg, tmp_path):
    (tmp_path / 'maps/00.png').write_bytes(b'no picture')
    assert "maps/00.png' " in refused(cfg)
    for i in (7, 8):
        (tmp_path / f'maps/{i:02d}.png').unlink()
    message = refused(cfg)
    assert '2 of 60 images' in message and "maps/07.png'" in message
    assert 'seg_map_suffix' in message
    cfg.train_dataloader.dataset.img_suffix = '.bmp'
    message = refused(cfg)
    assert "no image '*.bmp'" in message and '/images' in message


def test_images_to_predict_only_need_no_label_maps(cfg):
    cfg.train_dataloader.dataset.data_prefix = dict(img_path='images')
    check_data(cfg, 'train')


def test_a_list_that_has_changed_is_read_again(cfg, tmp_path):
    cfg.train_dataloader.dataset.ann_file = 'list.txt'
    for count in (3, 2):
        (tmp_path / 'list.txt').write_text('\n'.join(f'{i:02d}' for i in range(count)))
        assert [found.images for found in check_data(cfg, 'train')] == [count]


def all_maps(folder, labels):
    for i in range(60):
        write(folder, i, labels)


def test_not_one_pixel_that_counts(cfg, tmp_path):
    all_maps(tmp_path, [255] * 4)
    message = refused(cfg)
    assert 'not one pixel of the 60 label maps' in message
    assert 'all are 255, to ignore, in the files' in message
    # one in a map that is not among the first read is enough
    read = set(np.linspace(0, 59, 50).astype(int).tolist())
    write(tmp_path, min(set(range(60)) - read), [255, 255, 1, 255])
    check_data(cfg, 'train')

    all_maps(tmp_path, [0, 0, 0, 255])
    cfg.train_dataloader.dataset.reduce_zero_label = True
    message = refused(cfg)
    assert 'BaseSegDataset has read them, with reduce_zero_label=True' in message
    assert f'{WHERE}.reduce_zero_label=False' in message


def test_own_classes_in_the_dataset_of_others(cfg, tmp_path):
    """As ADE20K's configs are used when only the folders are changed: 0, its
    wall, is left out by name, and 1 becomes 0 before."""
    cfg.train_dataloader.dataset.type = 'ADE20KDataset'
    message = refused(cfg)
    assert 'ADE20KDataset, which has classes of its own' in message
    assert f'{WHERE}.type=BaseSegDataset' in message
    cfg.train_dataloader.dataset.update(
        type='ADE20KDataset', metainfo=dict(classes=('road', 'river'))
    )
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head[0]):
        head.num_classes = 2
    all_maps(tmp_path, [0, 1, 1, 255])
    message = refused(cfg)
    assert 'ADE20KDataset has read them, with reduce_zero_label=True' in (message)
    assert 'only those of its own classes that metainfo names' in message
    assert f'{WHERE}.type=BaseSegDataset' in message
    cfg.train_dataloader.dataset.update(type='BaseSegDataset', reduce_zero_label=False)
    check_data(cfg, 'train')


def save(folder, i, array, mode=None, suffix='.png'):
    Image.fromarray(array, mode).save(folder / f'maps/{i:02d}{suffix}')


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
    ids=['rgb', 'grey alpha', '16 bit', '32 bit', 'float', 'wide'],
)
def test_values_are_judged_as_they_are_stored(cfg, tmp_path, array, complaint):
    (tmp_path / 'maps/07.png').unlink()
    suffix = '.png' if array.dtype.itemsize < 4 else '.tif'
    save(tmp_path, 7, array, suffix=suffix)
    if suffix != '.png':
        (tmp_path / 'maps/07.tif').rename(tmp_path / 'maps/07.png')
    with pytest.raises(UserError, match=complaint) as error:
        check_data(cfg, 'train')
    assert "maps/07.png' " in str(error.value)


@pytest.mark.parametrize('kind', ['palette', np.uint16, bool])
def test_ways_to_store_that_are_sound(cfg, tmp_path, kind):
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    picture = Image.fromarray(labels).convert('P')
    picture.putpalette([0, 0, 0, 255, 0, 0] + [0] * 750)
    picture.putdata(labels.ravel().tolist())
    for i in range(60):
        if kind == 'palette':
            picture.save(tmp_path / f'maps/{i:02d}.png')
        else:
            save(tmp_path, i, labels.astype(kind))
    (found,) = check_data(cfg, 'train')
    assert found.counts == dict(a=120, b=120, c=0)


def test_pixels_are_counted_and_classes_without_any_named(cfg, tmp_path):
    all_maps(tmp_path, [0, 0, 1, 255])
    write(tmp_path, 5, [1, 1, 1, 1])
    (found,) = check_data(cfg, 'train')
    assert found.counts == dict(a=118, b=63, c=0)
    assert list(report([found]))[-1] == (
        'warning: 1 of 3 classes of train_dataloader.dataset are in no annotation: c'
    )


def test_a_sample_says_nothing_of_unused_classes(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, 'SAMPLE', 10)
    all_maps(tmp_path, [0, 0, 1, 1])
    write(tmp_path, 1, [0, 1, 2, 7])
    (found,) = check_data(cfg, 'train')
    assert not found.complete and sum(found.counts.values()) == 40
    assert list(report([found]))[1:] == [
        'per class: train 40 pixels of a sample in 3 classes (a 20, b 20, c 0)',
        'left out: train nothing',
    ]
    with pytest.raises(UserError, match='01.png.*holds the class 7'):
        check_data(cfg, 'train', full=True)


def test_what_is_left_out_is_counted(cfg, tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'images/more{i}.png'), np.zeros((2, 2, 3), np.uint8))
    (tmp_path / 'images/._00.jpg').write_bytes(b'fork')
    save(tmp_path, 77, VALUES)
    (found,) = check_data(cfg, 'train')
    assert found.images == 60 and found.left_out == [
        f'3 of 63 images in {tmp_path}/images (3 .png)',
        f'1 of 61 label maps in {tmp_path}/maps (1 .png)',
    ]


@pytest.mark.slow
@pytest.mark.parametrize('orientation', [1, 3, 6])
@pytest.mark.parametrize('map_is_turned', [False, True])
def test_orientation_of_images(cfg, tmp_path, orientation, map_is_turned):
    """On images of 4x2 px with maps of either view."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    shape = (4, 2) if map_is_turned else (2, 4)
    for i in range(60):
        Image.new('RGB', (4, 2)).save(tmp_path / f'images/{i:02d}.jpg', exif=tags.tobytes())
        save(tmp_path, i, np.tile(np.arange(2, dtype=np.uint8), 4).reshape(shape))
    if map_is_turned and orientation < 5:
        with pytest.raises(UserError, match='2x4 px, but its image'):
            check_data(cfg, 'train')
        return
    (found,) = check_data(cfg, 'train')
    assert len(found.warnings) == (orientation == 3)


def test_splits_and_checkpoints_have_the_same_classes(cfg):
    cfg.val_dataloader = dict(
        dataset=dict(cfg.train_dataloader.dataset, metainfo=dict(classes=('b', 'a', 'c')))
    )
    cfg.val_cfg = dict()
    with pytest.raises(UserError, match=f"class 0 is 'b' in val_.* and 'a' in {WHERE}"):
        check_data(cfg, 'train', 'val')
    check_data(cfg, 'train', trained=['a', 'b', 'c'], checkpoint='x.pth')
    with pytest.raises(
        UserError, match="class 1 is 'c' in checkpoint 'x.pth' and 'b' in train_dataloader.dataset"
    ):
        check_data(cfg, 'train', trained=['a', 'c', 'b'], checkpoint='x.pth')
