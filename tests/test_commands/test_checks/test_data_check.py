import pytest
from mmengine.config import Config
from PIL import Image

from mmtlalign.commands.checks import check_data
from mmtlalign.errors import UserError


def config(dataset, **more):
    """A config that trains on a dataset and validates on nothing."""
    return Config(
        dict(
            default_scope='mmpretrain',
            train_dataloader=dict(dataset=dataset),
            train_cfg=dict(),
            val_dataloader=None,
            val_cfg=None,
            **more,
        )
    )


@pytest.fixture
def root(tmp_path):
    for name in ('train', 'train/ant'):
        (tmp_path / name).mkdir()
    Image.new('RGB', (2, 2)).save(tmp_path / 'train/ant/1.png')
    (tmp_path / 'list.txt').write_text('train/ant/1.png 0\n')
    return str(tmp_path)


@pytest.mark.parametrize(
    'paths',
    [
        dict(),
        dict(data_prefix='train'),
        dict(data_prefix=''),
        dict(data_prefix=dict(img_path='train')),
        dict(ann_file='list.txt'),
        dict(data_prefix='s3://bucket/train'),
        dict(type='mmtlalign.Digits', split='train'),
    ],
)
def test_data_that_is_there_passes(root, paths):
    dataset = paths if 'type' in paths else dict(type='CustomDataset', data_root=root, **paths)
    check_data(config(dataset), 'train', 'val')


@pytest.mark.parametrize(
    'paths, complaint',
    [
        (dict(data_root='gone'), r"folder 'gone' \(.*dataset\.data_root\)"),
        (dict(data_prefix='gone'), r"folder '.*/gone' \(.*\.data_prefix\)"),
        (
            dict(data_prefix=dict(img_path='train', seg_map_path='gone')),
            r"folder '.*/gone' \(.*\.data_prefix\.seg_map_path\)",
        ),
        (dict(ann_file='gone.json'), r"file '.*/gone.json' \(.*\.ann_file\)"),
        (dict(ann_file='gone.json', data_root=None), r"file 'gone.json'"),
    ],
)
def test_what_is_missing_is_named(root, paths, complaint):
    dataset = dict(type='CustomDataset', **{'data_root': root, **paths})
    with pytest.raises(UserError, match=complaint) as error:
        check_data(config(dataset), 'train')
    assert 'train_dataloader.dataset' in str(error.value)


def test_the_config_can_say_how_to_get_the_data():
    dataset = dict(type='CustomDataset', data_root='gone')
    with pytest.raises(UserError, match='the README describes'):
        check_data(config(dataset), 'train')
    with pytest.raises(UserError, match='unpack it with care'):
        check_data(config(dataset, data_hint='unpack it with care'), 'train')


def test_wrappers_are_looked_into(root):
    good = dict(type='CustomDataset', data_root=root)
    bad = dict(type='CustomDataset', data_root='gone')
    dataset = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[good, bad])
    )
    with pytest.raises(UserError, match=r'dataset\.dataset\.datasets\.1\.data_root'):
        check_data(config(dataset), 'train')


def test_datasets_that_download_themselves_may_be_missing():
    check_data(config(dict(type='CIFAR10', data_root='gone')), 'train')
    with pytest.raises(UserError, match="folder 'gone'"):
        check_data(config(dict(type='CIFAR10', data_root='gone', download=False)), 'train')


def test_only_the_data_that_will_be_read_is_asked_for(root):
    cfg = config(dict(type='CustomDataset', data_root=root))
    cfg.test_dataloader = dict(dataset=dict(type='CustomDataset', data_root='gone'))
    cfg.test_cfg = dict()
    check_data(cfg, 'train', 'val')
    with pytest.raises(UserError, match='test_dataloader'):
        check_data(cfg, 'test')
