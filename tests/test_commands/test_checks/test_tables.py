import re

import pytest

from mmtlalign.commands.checks import check_data

from .conftest import config, refused

datasets = pytest.importorskip('datasets', reason="pip install 'mmtlalign[hf]' is missing")


@pytest.fixture
def write(tmp_path):
    """The config of two splits whose images are never looked at."""

    def run(train, val, num_classes=2):
        saved = {}
        for split, names in dict(train=train, val=val).items():
            saved[split] = datasets.Dataset.from_dict(
                dict(image=[dict(bytes=b'', path='')], label=[0]),
                datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names)),
            )
        datasets.DatasetDict(saved).save_to_disk(tmp_path / 'table')
        table = dict(type='mmtlalign.HFImageDataset', data_root=str(tmp_path / 'table'))
        return config(
            model=dict(head=dict(num_classes=num_classes)),
            train=dict(type='RepeatDataset', times=2, dataset=table),
            val=dict(split='val', **table),
        )

    return run


@pytest.mark.parametrize(
    'val, num_classes, message',
    [
        (
            ['a', 'b'],
            3,
            r'model.head.num_classes is 3, but train_dataloader.dataset.dataset has 2 classes '
            r'\(a, b\): set it with --cfg-options model.head.num_classes=2',
        ),
        (
            ['a', 'c'],
            2,
            "class 1 is 'c' in val_dataloader.dataset and 'b' in "
            'train_dataloader.dataset.dataset: labels would .* mend the tables',
        ),
    ],
)
def test_classes_that_do_not_fit(write, val, num_classes, message):
    assert re.search(message, refused(write(['a', 'b'], val, num_classes), 'train', 'val'))


def test_what_cannot_be_opened_is_told_before_building(write):
    cfg = write(['a', 'b'], ['a', 'b'])
    check_data(cfg, 'train', 'val')
    cfg.val_dataloader.dataset.split = 'test'
    said = refused(cfg, 'train', 'val')
    assert re.fullmatch("data set .*table' has no split 'test', only train, val", said)
