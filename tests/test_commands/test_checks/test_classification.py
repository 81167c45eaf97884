"""Classes, files and lists of classification data, against one another."""

import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from mmtlalign.commands.checks import check_data, report
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.datasets import CustomDataset

from .conftest import config, refused

NAMES = ('ant', 'bee', 'cat', 'dog')


def write(folder, names=NAMES, count=3, suffix='.png'):
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image = Image.fromarray(np.full((4, 4, 3), i, np.uint8))
            image.save(folder / name / f'{name}{i}{suffix}')


def config_of(root, num_classes=4, own=True, **dataset):
    steps = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    common = dict(type='CustomDataset', data_root=str(root), pipeline=steps, **dataset)
    splits = {split: dict(common, data_prefix=split) for split in ('train', 'val', 'test')}
    cfg = config(model=dict(head=dict(num_classes=num_classes)), **splits)
    cfg.data_preprocessor = dict(num_classes=num_classes)
    if own:
        use_own_loaders(cfg)
    return cfg


@pytest.fixture
def root(tmp_path):
    for split in ('train', 'val', 'test'):
        write(tmp_path / split)
    return tmp_path


def labels(cfg, split):
    """Class by file name, as the host's loop would see it."""
    options = dict(cfg[f'{split}_dataloader'].dataset, pipeline=[])
    assert options.pop('type') == 'mmtlalign.CustomDataset'
    dataset = CustomDataset(**options)
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {os.path.basename(info['img_path'])[:3]: info['gt_label'] for info in infos}


@pytest.mark.parametrize('lacking', ['ant', 'bee', 'dog'])
def test_a_split_that_lacks_a_folder_goes_by_names(root, lacking):
    shutil.rmtree(root / 'val' / lacking)
    cfg = config_of(root)
    train, val = check_data(cfg, 'train', 'val')
    assert train.counts == dict.fromkeys(NAMES, 3)
    assert labels(cfg, 'val') == {name: i for i, name in enumerate(NAMES) if name != lacking}
    (warning,) = [line for line in report([train, val]) if 'warning' in line]
    assert 'val_dataloader' in warning and warning.endswith(lacking)


def test_the_hosts_own_data_set_is_not_trusted_with_that(root):
    cfg = config_of(root, own=False)
    for path in (root / 'val/bee').iterdir():
        path.unlink()
    assert 'empty folder' in refused(cfg, 'train', 'val')
    (root / 'val/bee').rmdir()
    message = refused(cfg, 'train', 'val')
    assert "no folder for 'bee'" in message
    assert 'val_dataloader.dataset.type=mmtlalign.CustomDataset' in message


def test_hidden_and_empty_folders_are_no_classes(root):
    write(root / 'train/.trash', ['ant'])
    write(root / 'train', ['.cache'])
    (root / 'train/zoo').mkdir()
    cfg = config_of(root)
    (train,) = check_data(cfg, 'train')
    assert train.left_out[:2] == ['2 hidden folders (.cache, .trash)', '1 empty folders (zoo)']
    assert labels(cfg, 'train') == {n: i for i, n in enumerate(NAMES)}


def named(*classes):
    return dict(metainfo=dict(classes=classes))


def damage(path):
    path.write_bytes(b'GIF89a')


def by_number(root):
    for split in ('train', 'val'):
        for number, name in zip(('1', '2', '3', '10'), NAMES):
            (root / split / name).rename(root / split / number)


@pytest.mark.slow
@pytest.mark.parametrize(
    'change, complaint',
    [
        (lambda root: write(root / 'val', ['eel']), "1 are none of the 4 classes ('eel'"),
        (
            lambda root: (root / 'val/ant').rename(root / 'val/zebra') and named(*'ABCD'),
            "class 0 is 'bee' in val_dataloader.dataset and 'ant' in train_",
        ),
        (lambda root: by_number(root) or named(*NAMES), 'in the order 1, 10, 2, 3, ..., which'),
        (lambda root: named('ant', 'bee', 'cat', 'eel'), 'none of the'),
        (lambda root: named('ant', 'bee', 'cat'), 'none of the'),
        (lambda root: named('ant', 'bee', 'bee', 'dog'), "'bee' twice"),
        (lambda root: dict(metainfo=dict(classes='ant')), "'ant', which is no file: give a list"),
        (lambda root: dict(metainfo=dict(classes=set(NAMES))), 'a set: give a list'),
        (lambda root: dict(extensions=['.gif']), '.gif: put them there'),
        (lambda root: dict(indices=[99]), 'train_dataloader.dataset: list index out of range'),
        (
            lambda root: dict(type='mmtlalign.ImageFolderSubset', num_samples=16),
            'num_samples=16 needs 4 images of each class',
        ),
        (lambda root: (root / 'train/ant/all').symlink_to('..'), "the link '"),
        (lambda root: os.mkfifo(root / 'train/ant/a.png'), "a.png' is no file"),
        (lambda root: damage(root / 'val/cat/cat1.png'), "/val/cat/cat1.png' cannot be read"),
    ],
)
def test_what_is_refused(root, change, complaint):
    """Changes of files, and of the data set's entries."""
    dataset = change(root) or {}
    cfg = config_of(root, len(dataset.get('metainfo', {}).get('classes', NAMES)))
    cfg.train_dataloader.dataset.update(dataset)
    if 'metainfo' in dataset:
        cfg.val_dataloader.dataset.update(dataset)
    assert complaint in refused(cfg, 'train', 'val')


@pytest.mark.parametrize(
    'classes, expected',
    [
        (('bee', 'ant', 'dog', 'cat'), (1, 0, 3, 2)),
        (('Ameise', 'Biene', 'Katze', 'Hund'), (0, 1, 2, 3)),  # by the order of folders
        (None, (0, 2, 3, 1)),  # numbers, which classes are called
    ],
)
def test_names_of_classes_number_the_folders(root, classes, expected):
    if classes is None:
        by_number(root)
    cfg = config_of(root, **named(*classes) if classes else {})
    train, _ = check_data(cfg, 'train', 'val')
    assert classes is None or tuple(train.counts) == classes
    for split in ('train', 'val'):
        assert labels(cfg, split) == dict(zip(NAMES, expected))


@pytest.mark.parametrize('place', ['model.head', 'data_preprocessor'])
def test_heads_of_another_number(root, place):
    cfg = config_of(root)
    cfg.merge_from_dict({f'{place}.num_classes': 3})
    message = refused(cfg)
    assert f'{place}.num_classes is 3' in message
    assert f'--cfg-options {place}.num_classes=4' in message


def test_files_left_out_are_counted(root):
    write(root / 'train', ['ant', 'bee'], 2, '.webp')
    (root / 'train/ant/._ant0.png').write_bytes(b'fork')
    (train,) = check_data(config_of(root), 'train')
    assert train.images == 12
    assert train.left_out == [f'4 of 16 images in {root}/train (4 .webp)']


def test_classes_of_a_checkpoint(root):
    cfg = config_of(root)
    check_data(cfg, 'test', trained=NAMES, checkpoint='x.pth')
    for trained, complaint in (
        (NAMES[::-1], "class 0 is 'dog' in checkpoint 'x.pth' and 'ant'"),
        (NAMES[:3], '3 classes in checkpoint'),
    ):
        assert complaint in refused(cfg, 'test', trained=trained, checkpoint='x.pth')


def test_test_data_go_by_the_checkpoint_where_no_training_data_are(root):
    """Names are the checkpoint's; those of other classes are refused."""
    cfg = config_of(root)
    cfg.train_dataloader.dataset.data_root = '/gone'
    cfg.test_dataloader.dataset.data_prefix = 'few'
    write(root / 'few', ['dog', 'bee', 'eel'])
    assert "'eel'" in refused(cfg.copy(), 'test', trained=NAMES, checkpoint='x.pth')
    shutil.rmtree(root / 'few/eel')
    check_data(cfg, 'test', trained=NAMES, checkpoint='x.pth')
    assert labels(cfg, 'test') == dict(bee=1, dog=3)


@pytest.mark.parametrize(
    'dataset, kept',
    [
        (dict(indices=5), dict(ant=3, bee=2, cat=0, dog=0)),
        (dict(type='mmtlalign.ImageFolderSubset', num_samples=8), dict.fromkeys(NAMES, 2)),
    ],
)
def test_a_part_of_the_images_is_counted_as_such(root, dataset, kept):
    cfg = config_of(root)
    cfg.train_dataloader.dataset.update(dataset)
    (train,) = check_data(cfg, 'train')
    assert train.counts == kept and train.images == sum(kept.values())
    assert train.left_out == [
        f'{12 - train.images} of 12 images, which indices or num_samples do not take'
    ]


# Annotation files of lines -------------------------------------------------


@pytest.fixture
def listed(root):
    """The config of a list of lines, or of bytes."""

    def write_list(*lines, **dataset):
        content = [line if isinstance(line, bytes) else line.encode() for line in lines]
        (root / 'list.txt').write_bytes(b'\n'.join(content))
        return config_of(root, ann_file='list.txt', **dataset)

    return write_list


def test_sound_lists(listed):
    def look(*lines, **dataset):
        return check_data(listed(*lines, **dataset), 'train')[0]

    found = look('ant/ant0.png 0', 'bee/bee1.png 1', 'dog/dog2.png 3', **named(*NAMES))
    assert found.counts == dict(ant=1, bee=1, cat=0, dog=1)
    assert found.left_out[0].startswith('9 of 12 images')
    # the end of a last line is no line
    assert look('ant/ant0.png 3', '').counts == {'0': 0, '1': 0, '2': 0, '3': 1}
    again = look('ant/ant0.png 0', 'ant/ant0.png 0', 'dog/dog0.png 3', 'dog/dog0.png 2')
    assert again.warnings[0].startswith('1 images of train_dataloader.dataset are there with')
    unlabelled = look('ant/ant0.png', with_label=False)
    assert unlabelled.images == 1 and not unlabelled.counts


@pytest.mark.slow
@pytest.mark.parametrize(
    'lines, complaint',
    [
        (['ant/ant0.png 0', '', ''], 'an empty line 2'),
        (['', 'ant/ant0.png 0'], 'an empty line 1'),
        (['ant/ant0.png\t0'], r'a tab in line 1 where a blank'),
        (['ant/ant0.png,0'], 'a comma in line 1'),
        (['ant/ant0.png;0'], 'a semicolon in line 1'),
        (['ant/ant0.png 0', 'ant/ant1.png'], 'nothing in line 2'),
        (['ant/ant0.png ant'], "the label 'ant' in line 1"),
        (['ant/ant0.png -1'], "the label '-1' in line 1"),
        (['ant/ant0.png 1.0'], "the label '1.0' in line 1"),
        (
            ['ant/ant0.png 0', 'ant/ant1.png 4'],
            'the label 4 in line 2, but there are 4 classes, 0 to 3: correct',
        ),
        (['ant/ant0.png 1', 'dog/dog1.png 4'], 'line 2, .*no label is 0: it seems to count from 1'),
        (
            ['ant/ant0.png 0', 'ant/gone.png 0'],
            "1 of 2 images that are not there, the first in line 2: '.*gone",
        ),
        (['ant/ant0.png, 0'], "the first in line 1: '.*ant0.png,'"),
        (['ant/ant0.png  0'], "the first in line 1: '.*ant0.png '"),
        ([], 'is empty; it must hold a line'),
        (['ärger.png 0'.encode('latin1')], 'no text in UTF-8'),
    ],
)
def test_each_line_is_looked_at(listed, lines, complaint):
    said = refused(listed(*lines))
    assert re.search(complaint, said) and 'list.txt' in said


def test_a_folder_is_no_image(listed):
    assert "/ant' is no file" in refused(listed('ant/ant0.png 0', 'ant 0'))
