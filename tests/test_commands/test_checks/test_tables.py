import pytest
from mmengine.config import Config

from mmtlalign.commands.checks import check_data
from mmtlalign.errors import UserError

datasets = pytest.importorskip('datasets', reason="pip install 'mmtlalign[hf]' is missing")


@pytest.fixture
def config(tmp_path):
    """Of two splits whose images are never looked at."""

    def write(train, val, num_classes=2):
        saved = {}
        for split, names in dict(train=train, val=val).items():
            saved[split] = datasets.Dataset.from_dict(
                dict(image=[dict(bytes=b'', path='')], label=[0]),
                datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names)),
            )
        datasets.DatasetDict(saved).save_to_disk(tmp_path / 'table')
        table = dict(type='mmtlalign.HFImageDataset', data_root=str(tmp_path / 'table'))
        return Config(
            dict(
                default_scope='mmpretrain',
                train_cfg={},
                val_cfg={},
                model=dict(head=dict(num_classes=num_classes)),
                train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=table)),
                val_dataloader=dict(dataset=dict(split='val', **table)),
            )
        )

    return write


@pytest.mark.parametrize(
    'train, val, num_classes, message',
    [
        (
            ['a', 'b'],
            ['a', 'b'],
            3,
            r'model.head.num_classes is 3, but '
            r'train_dataloader.dataset.dataset has 2 classes \(a, b\): set it with '
            '--cfg-options model.head.num_classes=2',
        ),
        (
            ['a', 'b'],
            ['a', 'c'],
            2,
            "class 1 is 'c' in val_dataloader.dataset and 'b' in "
            'train_dataloader.dataset.dataset: labels would .* mend the tables',
        ),
        (['a', 'b'], ['b', 'a'], 2, "class 0 is 'b' in val_.* and 'a' in train_.*: labels would"),
        (['a', 'b'], ['a'], 2, '1 classes in val_dataloader.dataset, 2 in train_dataloader'),
    ],
)
def test_classes_that_do_not_fit(config, train, val, num_classes, message):
    with pytest.raises(UserError, match=message) as raised:
        check_data(config(train, val, num_classes), 'train', 'val')
    assert '\n' not in str(raised.value)


def test_what_cannot_be_opened_is_told_before_building(config):
    cfg = config(['a', 'b'], ['a', 'b'])
    check_data(cfg, 'train', 'val')
    cfg.val_dataloader.dataset.split = 'test'
    with pytest.raises(UserError, match="^data set .*table' has no split 'test', only train, val$"):
        check_data(cfg, 'train', 'val')
