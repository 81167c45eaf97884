"""docs/data.md: its scripts are run and its configs read made data."""

import re
import subprocess
import sys
from contextlib import ExitStack
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch.utils.data import DataLoader

from mmtlalign.commands.checks import check_data

from .conftest import ROOT, needs_operators
from .test_commands.test_checks.coco_files import make

PAGE = (ROOT / 'docs/data.md').read_text()
FILES = dict(re.findall(r'```python\n# (\S+\.py)\n(.*?)```', PAGE, re.DOTALL))
CLASSES = [f'n{i:08}' for i in range(1000)]  # as many as the heads want


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """With the files of the page, and the checkout beside."""
    folder = tmp_path_factory.mktemp('reader')
    (folder / 'path').mkdir()
    (folder / 'path/to').symlink_to(ROOT)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def reader(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture(scope='module')
def imagenet(folder):
    """An image a class, each of its own size, in folders and packed."""
    pytest.importorskip('lmdb')
    root = folder / 'data/imagenet'
    for i, name in enumerate(CLASSES):
        (root / 'train' / name).mkdir(parents=True)
        image = np.full((4, 4 + i % 50, 3), i % 256, np.uint8)
        cv2.imwrite(str(root / 'train' / name / f'{i}.png'), image)
    (root / 'val').symlink_to('train')
    for split in ('train', 'val'):
        pack(f'data/imagenet/{split}', f'data/{split}.lmdb', folder)
    return root


def pack(source, packed, folder):
    subprocess.run([sys.executable, 'pack.py', source, packed], cwd=folder, check=True)


def build(cfg, phase='train'):
    init_default_scope(cfg.default_scope)
    dataset = cfg[f'{phase}_dataloader'].dataset
    return DATASETS.build(dict(dataset, pipeline=dataset.pipeline[:1]))


def test_every_file_of_the_page_is_known():
    names = 'deit_parquet deit_tar pack deit_lmdb detector_lmdb object_storage deit_s3'.split()
    assert list(FILES) == [f'{name}.py' for name in names]
    assert PAGE.count('```python') == len(FILES)


@pytest.mark.parametrize('name', ['deit_parquet', 'deit_tar'])
def test_two_lines_change_nothing_but_the_data_set(reader, name):
    (base,) = re.findall("'(path/to/.*)'", FILES[f'{name}.py'])
    stock, cfg = Config.fromfile(base), Config.fromfile(f'{name}.py')
    for phase, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        ours = cfg.pop(f'{phase}_dataloader')
        theirs = stock.pop(f'{phase}_dataloader')
        assert ours.dataset.pop('type') == 'mmtlalign.HFImageDataset'
        assert ours.dataset.split == split
        for key in ('data_root', 'image_column', 'label_column', 'classes'):
            ours.dataset.pop(key, None)
        del theirs.dataset.type, theirs.dataset.data_root
        assert ours == theirs
    cfg.pop('table')
    assert cfg.to_dict() == stock.to_dict()


@pytest.mark.slow
def test_a_classifier_reads_an_lmdb(reader, imagenet):
    cfg = Config.fromfile('deit_lmdb.py')
    check_data(cfg, 'train', 'val')
    packed = {phase: build(cfg, phase) for phase in ('train', 'val', 'test')}
    for phase, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        assert packed[phase].metainfo['classes'] == tuple(CLASSES)
        path = f'data/imagenet/{split}/{CLASSES[700]}/700.png'
        sample = packed[phase][700]  # before workers read
        assert (sample['img'] == cv2.imread(path)).all()
        assert sample['gt_label'] == 700
    loader = DataLoader(packed['train'], num_workers=2, batch_size=None, sampler=range(0, 1000, 9))
    widths = [sample['img'].shape[1] for sample in loader]
    assert widths == [4 + i % 50 for i in range(0, 1000, 9)]


@pytest.mark.slow
def test_a_detector_reads_an_lmdb(reader):
    needs_operators()
    pytest.importorskip('lmdb')
    from mmdet.datasets import CocoDataset

    def name(coco):
        names = enumerate(CocoDataset.METAINFO['classes'], 1)
        return dict(coco, categories=[dict(id=i, name=name) for i, name in names])

    for split in ('train2017', 'val2017'):
        make(reader / 'data/coco', split, count=1, ids=(3,), change=name)
        annotations = reader / 'data/coco/annotations'
        (annotations / f'{split}.json').rename(annotations / f'instances_{split}.json')
        pack(f'data/coco/{split}', f'data/{split}.lmdb', reader)
    cfg = Config.fromfile('detector_lmdb.py')
    check_data(cfg, 'train', 'val')
    for phase, split in (('train', 'train2017'), ('val', 'val2017')):
        sample = build(cfg, phase)[0]
        assert (sample['img'] == cv2.imread(f'data/coco/{split}/0.jpg')).all()
        assert [box['bbox_label'] for box in sample['instances']] == [2]


@pytest.fixture
def bucket(reader, monkeypatch):
    """A storage in memory in the place of one called s3."""
    fsspec = pytest.importorskip('fsspec')
    from mmengine.fileio import io
    from mmengine.fileio.backends import backends, prefix_to_backends

    opened = fsspec.open
    monkeypatch.setattr(
        fsspec, 'open', lambda path, mode: opened(path.replace('s3://', 'memory://'), mode)
    )
    with ExitStack() as stack:
        for table in (backends, prefix_to_backends, io.backend_instances):
            stack.enter_context(patch.dict(table))
        yield fsspec.filesystem('memory')
    fsspec.filesystem('memory').store.clear()
    sys.modules.pop('object_storage', None)


@pytest.mark.slow
def test_a_classifier_reads_a_bucket(reader, imagenet, bucket):
    bucket.put(str(imagenet), '/bucket/imagenet', recursive=True)
    cfg = Config.fromfile('deit_s3.py')
    check_data(cfg, 'train')
    data = build(cfg)
    assert len(data) == 1000
    sample = data[321]
    path = f'imagenet/train/{CLASSES[321]}/321.png'
    assert sample['img_path'] == f's3://bucket/{path}'
    assert (sample['img'] == cv2.imread(f'data/{path}')).all()
