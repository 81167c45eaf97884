"""Whether the data that a run will read are there."""

import re

import pytest
from PIL import Image

from mmtlalign.commands.checks import check_data

from .conftest import config, refused

DIGITS = dict(type='mmtlalign.Digits', split='train')
GONE = dict(type='CustomDataset', data_root='gone')


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'train/ant').mkdir(parents=True)
    Image.new('RGB', (2, 2)).save(tmp_path / 'train/ant/1.png')
    (tmp_path / 'list.txt').write_text('train/ant/1.png 0\n')
    return str(tmp_path)


@pytest.mark.parametrize(
    'dataset',
    [
        dict(),
        dict(data_prefix='train'),
        dict(data_prefix=''),
        dict(data_prefix=dict(img_path='train')),
        dict(ann_file='list.txt'),
        dict(data_prefix='s3://bucket/train'),
        dict(DIGITS, data_root=None),
        dict(type='CIFAR10', data_root='gone'),  # which downloads itself
    ],
)
def test_data_that_is_there_passes(root, dataset):
    check_data(config(train=dict(dict(type='CustomDataset', data_root=root), **dataset)), 'train')


@pytest.mark.parametrize(
    'dataset, complaint',
    [
        (dict(data_root='gone'), r"folder 'gone' \(.*dataset\.data_root\).*the README describes"),
        (dict(data_prefix='gone'), r"folder '.*/gone' \(.*\.data_prefix\)"),
        (
            dict(data_prefix=dict(img_path='train', seg_map_path='gone')),
            r"folder '.*/gone' \(.*\.data_prefix\.seg_map_path\)",
        ),
        (dict(ann_file='gone.json'), r"file '.*/gone.json' \(.*\.ann_file\)"),
        (dict(ann_file='gone.json', data_root=None), r"file 'gone.json'"),
        (dict(type='CIFAR10', data_root='gone', download=False), "folder 'gone'"),
        (
            dict(
                type='RepeatDataset',
                times=2,
                dataset=dict(type='ConcatDataset', datasets=[DIGITS, GONE]),
            ),
            r'dataset\.dataset\.datasets\.1\.data_root',
        ),
    ],
)
def test_what_is_missing_is_named(root, dataset, complaint):
    said = refused(config(train={**dict(type='CustomDataset', data_root=root), **dataset}))
    assert re.search(complaint, said) and 'train_dataloader.dataset' in said


def test_only_the_data_that_will_be_read_is_asked_for(root):
    cfg = config(train=dict(type='CustomDataset', data_root=root), test=GONE)
    cfg.data_hint = 'unpack it with care'
    check_data(cfg, 'train', 'val')
    said = refused(cfg, 'test')
    assert 'test_dataloader' in said and 'unpack it with care' in said
