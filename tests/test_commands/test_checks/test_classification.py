"""Classes, files and lists of classification data, against one another."""

import os

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmtlalign.commands.checks import check_data, report
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.datasets import CustomDataset
from mmtlalign.errors import UserError

NAMES = ('ant', 'bee', 'cat', 'dog')


def write(folder, names=NAMES, count=3, suffix='.png'):
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(
                folder / name / f'{name}{i}{suffix}'
            )


def config(root, num_classes=4, own=True, **dataset):
    def loader(split):
        return dict(
            dataset=dict(
                type='CustomDataset',
                data_root=str(root),
                data_prefix=split,
                pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
                **dataset,
            )
        )

    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(head=dict(num_classes=num_classes)),
            data_preprocessor=dict(num_classes=num_classes),
            **{f'{split}_dataloader': loader(split) for split in ('train', 'val', 'test')},
            train_cfg=dict(),
            val_cfg=dict(),
            test_cfg=dict(),
        )
    )
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
    return {
        dataset.get_data_info(i)['img_path'].rsplit('/', 1)[1][:3]: dataset.get_data_info(i)[
            'gt_label'
        ]
        for i in range(len(dataset))
    }


def refused(cfg, *phases, **options):
    with pytest.raises(UserError) as error:
        check_data(cfg, *(phases or ('train', 'val')), **options)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_sound_folders(root):
    findings = check_data(config(root), 'train', 'val')
    assert [found.counts for found in findings] == [dict.fromkeys(NAMES, 3)] * 2
    assert list(report(findings)) == [
        'images: train 12; val 12',
        'per class: train 12 images in 4 classes (ant 3, bee 3, cat 3, dog 3)'
        '; val 12 images in 4 classes (ant 3, bee 3, cat 3, dog 3)',
        'left out: train nothing; val nothing',
    ]


@pytest.mark.parametrize('lacking', ['ant', 'bee', 'dog'])
def test_a_split_that_lacks_a_folder_goes_by_names(root, lacking):
    for path in (root / 'val' / lacking).iterdir():
        path.unlink()
    (root / 'val' / lacking).rmdir()
    cfg = config(root)
    findings = check_data(cfg, 'train', 'val')
    assert labels(cfg, 'val') == {name: i for i, name in enumerate(NAMES) if name != lacking}
    assert any(
        'val_dataloader' in line and line.endswith(lacking)
        for line in report(findings)
        if 'warning' in line
    )


def test_the_hosts_own_data_set_is_not_trusted_with_that(root):
    cfg = config(root, own=False)
    for path in (root / 'val/bee').iterdir():
        path.unlink()
    assert 'empty folder' in refused(cfg)
    (root / 'val/bee').rmdir()
    message = refused(cfg)
    assert "no folder for 'bee'" in message
    assert 'val_dataloader.dataset.type=mmtlalign.CustomDataset' in message


@pytest.mark.parametrize('name, kind', [('.ipynb_checkpoints', 'hidden'), ('zoo', 'empty')])
def test_hidden_and_empty_folders_are_no_classes(root, name, kind):
    (root / 'train' / name).mkdir()
    cfg = config(root)
    train, _ = check_data(cfg, 'train', 'val')
    assert train.left_out == [f'1 {kind} folders ({name})']
    write(root / 'train/.trash', ['ant'])
    write(root / 'train', ['.cache'])
    check_data(cfg, 'train', 'val')
    assert labels(cfg, 'train') == {n: i for i, n in enumerate(NAMES)}


def nothing(root):
    pass


def named(*classes):
    return dict(metainfo=dict(classes=classes))


@pytest.mark.slow
@pytest.mark.parametrize(
    'change, dataset, complaint',
    [
        (lambda root: write(root / 'val', ['eel']), {}, "1 are none of the 4 classes ('eel'"),
        (
            lambda root: (root / 'val/ant').rename(root / 'val/zebra'),
            named('A', 'B', 'C', 'D'),
            "class 0 is 'bee' in val_dataloader.dataset and 'ant' in train_",
        ),
        (nothing, named('ant', 'bee', 'cat', 'eel'), 'none of the'),
        (nothing, named('ant', 'bee', 'cat'), 'none of the'),
        (nothing, named('ant', 'bee', 'bee', 'dog'), "'bee' twice"),
        (nothing, dict(metainfo=dict(classes='ant')), "'ant', which is no file: give a list"),
        (nothing, dict(metainfo=dict(classes=set(NAMES))), 'a set: give a list'),
        (nothing, dict(extensions=['.gif']), '.gif: put them there'),
        (nothing, dict(indices=[99]), 'train_dataloader.dataset: list index out of range'),
        (
            nothing,
            dict(type='mmtlalign.ImageFolderSubset', num_samples=16),
            'num_samples=16 needs 4 images of each class',
        ),
        (lambda root: (root / 'train/ant/all').symlink_to('..'), {}, "the link '"),
        (
            lambda root: (root / 'val/cat/cat1.png').write_bytes(b'GIF89a'),
            {},
            "/val/cat/cat1.png' cannot be read",
        ),
    ],
)
def test_what_is_refused(root, change, dataset, complaint):
    change(root)
    num_classes = len(dataset.get('metainfo', {}).get('classes', NAMES))
    cfg = config(root, num_classes)
    cfg.train_dataloader.dataset.update(dataset)
    if 'metainfo' in dataset:
        cfg.val_dataloader.dataset.update(dataset)
    assert complaint in refused(cfg)


def test_splits_of_other_classes(root):
    cfg = config(root, **named(*NAMES))
    cfg.val_dataloader.dataset.update(named('ant', 'cat', 'bee', 'dog'))
    assert (
        "class 1 is 'cat' in val_dataloader.dataset and 'bee' in train_dataloader.dataset"
    ) in refused(cfg)


def test_classes_in_another_order_than_the_folders(root):
    classes = ('bee', 'ant', 'dog', 'cat')
    cfg = config(root, **named(*classes))
    check_data(cfg, 'train', 'val')
    for split in ('train', 'val'):
        assert labels(cfg, split) == {name: classes.index(name) for name in NAMES}


def test_other_names_for_all_folders_go_by_their_order(root):
    names = ('Ameise', 'Biene', 'Katze', 'Hund')
    cfg = config(root, **named(*names))
    train, _ = check_data(cfg, 'train', 'val')
    assert list(train.counts) == list(names)
    assert labels(cfg, 'train') == {n: i for i, n in enumerate(NAMES)}


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_no_image(root, make):
    make(root / 'train/ant/a.png')
    (root / 'train.txt').write_text('ant/ant0.png 0\nant/a.png 0\n')
    cfg = config(root)
    cfg.train_dataloader.dataset.ann_file = 'train.txt'
    assert "a.png' is no file" in refused(cfg, 'train')


def test_numbers_are_not_ordered_as_text(root):
    for split in ('train', 'val'):
        for number, name in zip(('1', '2', '3', '10'), NAMES):
            (root / split / name).rename(root / split / number)
    assert 'come in the order 1, 10, 2, 3, ..., which' in refused(config(root, **named(*NAMES)))
    cfg = config(root)  # classes that are called so are told by their names
    check_data(cfg, 'train', 'val')
    assert labels(cfg, 'val') == dict(ant=0, dog=1, bee=2, cat=3)


@pytest.mark.parametrize('place', ['model.head', 'data_preprocessor'])
def test_heads_of_another_number(root, place):
    cfg = config(root)
    cfg.merge_from_dict({f'{place}.num_classes': 3})
    message = refused(cfg)
    assert f'{place}.num_classes is 3' in message
    assert f'--cfg-options {place}.num_classes=4' in message


def test_files_left_out_are_counted(root):
    write(root / 'train', ['ant', 'bee'], 2, '.webp')
    (root / 'train/ant/._ant0.png').write_bytes(b'fork')
    train, _ = check_data(config(root), 'train', 'val')
    assert train.images == 12
    assert train.left_out == [f'4 of 16 images in {root}/train (4 .webp)']


def test_classes_of_a_checkpoint(root):
    cfg = config(root)
    check_data(cfg, 'test', trained=NAMES, checkpoint='x.pth')
    message = refused(cfg, 'test', trained=NAMES[::-1], checkpoint='x.pth')
    assert "class 0 is 'dog' in checkpoint 'x.pth' and 'ant'" in message
    message = refused(cfg, 'test', trained=NAMES[:3], checkpoint='x.pth')
    assert '3 classes in checkpoint' in message


def test_test_data_go_by_the_checkpoint_where_no_training_data_are(root):
    """Names are the checkpoint's; those of other classes are refused."""

    def check():
        cfg = config(root)
        cfg.train_dataloader.dataset.data_root = '/gone'
        cfg.test_dataloader.dataset.data_prefix = 'few'
        check_data(cfg, 'test', trained=NAMES, checkpoint='x.pth')
        return cfg

    write(root / 'few', ['dog', 'bee'])
    assert labels(check(), 'test') == dict(bee=1, dog=3)
    write(root / 'few', ['eel'])
    with pytest.raises(UserError, match="'eel'"):
        check()


@pytest.mark.parametrize(
    'dataset, kept',
    [
        (dict(indices=5), dict(ant=3, bee=2, cat=0, dog=0)),
        (dict(type='mmtlalign.ImageFolderSubset', num_samples=8), dict.fromkeys(NAMES, 2)),
    ],
)
def test_a_part_of_the_images_is_counted_as_such(root, dataset, kept):
    cfg = config(root)
    cfg.train_dataloader.dataset.update(dataset)
    train, _ = check_data(cfg, 'train', 'val')
    assert train.counts == kept and train.images == sum(kept.values())
    assert train.left_out == [
        f'{12 - train.images} of 12 images, which indices or num_samples do not take'
    ]


# Annotation files of lines -------------------------------------------------


@pytest.fixture
def look(root):
    def run(*lines, **dataset):
        if lines:
            (root / 'list.txt').write_text('\n'.join(lines))
        cfg = config(root, ann_file='list.txt', **dataset)
        return check_data(cfg, 'train')[0]

    return run


def test_sound_lists(look):
    found = look('ant/ant0.png 0', 'bee/bee1.png 1', 'dog/dog2.png 3', **named(*NAMES))
    assert found.counts == dict(ant=1, bee=1, cat=0, dog=1)
    assert found.left_out[0].startswith('9 of 12 images')
    assert look('ant/ant0.png 3').counts == {'0': 0, '1': 0, '2': 0, '3': 1}
    again = look('ant/ant0.png 0', 'ant/ant0.png 0', 'dog/dog0.png 3', 'dog/dog0.png 2')
    assert again.warnings[0].startswith('1 images of train_dataloader.dataset are there with')


@pytest.mark.slow
@pytest.mark.parametrize(
    'lines, complaint',
    [
        (['ant/ant0.png 0', ''], None),
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
    ],
)
def test_each_line_is_looked_at(look, lines, complaint):
    if complaint is None:
        look(*lines)  # the end of a last line is no line
        return
    with pytest.raises(UserError, match=complaint) as error:
        look(*lines)
    assert 'list.txt' in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'content, complaint',
    [(b'', 'is empty; it must hold a line'), ('ärger.png 0'.encode('latin1'), 'no text in UTF-8')],
)
def test_files_that_are_no_lists(look, root, content, complaint):
    (root / 'list.txt').write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        look()


def test_lists_without_labels(look):
    found = look('ant/ant0.png', with_label=False)
    assert found.images == 1 and not found.counts
