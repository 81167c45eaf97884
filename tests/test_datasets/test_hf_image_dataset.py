import io
import os
import pickle
import shutil
import tarfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import ClassBalancedDataset, pseudo_collate
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CustomDataset, RepeatAugSampler
from torch.utils.data import DataLoader

from mmtlalign.datasets import HFImageDataset, hf_tables
from mmtlalign.errors import UserError

datasets = pytest.importorskip('datasets', reason="pip install 'mmtlalign[hf]' is missing")

CLASSES = ('cat', 'dog', 'emu')
COUNTS = dict(train=(5, 3, 4), val=(1, 2, 2))
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]


@pytest.fixture(autouse=True)
def scope():
    DefaultScope.get_instance('hf', scope_name='mmpretrain')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """folder/{train,val}/{cat,dog,emu}/<number>.jpg"""
    root = tmp_path_factory.mktemp('hf') / 'folder'
    rng = np.random.default_rng(0)
    for split, counts in COUNTS.items():
        for name, count in zip(CLASSES, counts):
            place = root / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (20, 30 + i, 3), np.uint8)
                cv2.imwrite(str(place / f'{i}.jpg'), pixels)
    return root


@pytest.fixture(scope='module')
def tables(folder):
    """Both splits, in the order in which CustomDataset has the files."""
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
    )

    def table(split):
        stock = CustomDataset(data_prefix=str(folder / split))
        infos = [stock.get_data_info(i) for i in range(len(stock))]
        return datasets.Dataset.from_list(
            [
                dict(
                    image=dict(
                        bytes=Path(info['img_path']).read_bytes(),
                        path=os.path.basename(info['img_path']),
                    ),
                    label=info['gt_label'],
                )
                for info in infos
            ],
            features,
        )

    return datasets.DatasetDict(train=table('train'), validation=table('val'))


@pytest.fixture(scope='module')
def parquet(tables, folder):
    root = folder.parent / 'parquet'
    root.mkdir()
    for k in range(2):  # shards
        tables['train'].shard(2, k, contiguous=True).to_parquet(
            root / f'train-0000{k}-of-00002.parquet'
        )
    tables['validation'].to_parquet(root / 'val-00000-of-00001.parquet')
    return root


def write_saved(tables, root):
    tables.save_to_disk(root)


def write_saved_split(tables, root):
    tables['train'].save_to_disk(root)


def write_stream(tables, root):
    tables.save_to_disk(root.parent / 'to_move')
    root.mkdir()
    for split in tables:
        (file,) = (root.parent / 'to_move' / split).glob('*.arrow')
        file.rename(root / f'{split}.arrow')


def write_ipc_file(tables, root):
    from pyarrow import ipc

    root.mkdir()
    table = tables['train'].data.table
    with ipc.new_file(root / 'train.arrow', table.schema) as file:
        file.write_table(table)


def write_tar(tables, root):
    root.mkdir()
    encoded = tables['train'].cast_column('image', datasets.Image(decode=False))
    for k in range(2):
        with tarfile.open(root / f'train-{k}.tar', 'w') as tar:
            for row in range(6 * k, 6 * k + 6):
                add(tar, f'{row:03}.jpg', encoded[row]['image']['bytes'])
                add(tar, f'{row:03}.cls', b'%d' % encoded[row]['label'])
    return dict(image_column='jpg', label_column='cls', classes=CLASSES)


def write_foreign(tables, root):
    """As other programs do: no features of the library's, bytes alone."""
    import pyarrow as pa
    from pyarrow import parquet

    root.mkdir()
    encoded = tables['train'].cast_column('image', datasets.Image(decode=False))
    parquet.write_table(
        pa.table(
            dict(
                picture=[row['image']['bytes'] for row in encoded],
                label=pa.array(encoded['label'], pa.int16()),
            )
        ),
        root / 'train.parquet',
    )
    return dict(image_column='picture', classes=CLASSES)


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def build(root, cache, **kwargs):
    return HFImageDataset(str(root), cache_dir=str(cache), **{'pipeline': PIPELINE, **kwargs})


def assert_same_samples(ours, stock):
    assert len(ours) == len(stock) > 0
    assert ours.metainfo == stock.metainfo
    for mine, theirs in zip(ours, stock):
        assert torch.equal(mine['inputs'], theirs['inputs'])
        for key in ('gt_label', 'ori_shape', 'sample_idx'):
            assert mine['data_samples'].get(key) == theirs['data_samples'].get(key)


@pytest.mark.slow
@pytest.mark.parametrize('split', ['train', 'val'])
def test_parquet_is_the_folder(folder, parquet, tmp_path, split):
    ours = build(parquet, tmp_path, split=split)
    stock = CustomDataset(data_prefix=str(folder / split), pipeline=PIPELINE)
    assert_same_samples(ours, stock)
    assert ours.get_gt_labels().tolist() == stock.get_gt_labels().tolist()
    name = os.path.basename(stock[2]['data_samples'].img_path)
    assert ours[2]['data_samples'].img_path == str(parquet / split / '2' / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    'write',
    [write_saved, write_saved_split, write_stream, write_ipc_file, write_tar, write_foreign],
)
def test_every_format_is_the_folder(folder, tables, tmp_path, write):
    kwargs = write(tables, tmp_path / 'made') or {}
    assert_same_samples(
        build(tmp_path / 'made', tmp_path / 'cache', **kwargs),
        CustomDataset(data_prefix=str(folder / 'train'), pipeline=PIPELINE),
    )
    in_place = write in (write_saved, write_saved_split, write_stream)
    assert in_place != any((tmp_path / 'cache').glob('**/*.arrow'))


@pytest.mark.slow
def test_images_in_folders_are_read_where_they_lie(folder, tmp_path):
    for split in COUNTS:
        ours = build(folder, tmp_path, split=split)
        stock = CustomDataset(data_prefix=str(folder / split), pipeline=PIPELINE)
        assert ours.metainfo == stock.metainfo
        files = {data['data_samples'].img_path: data for data in ours}
        assert len(files) == len(stock) == sum(COUNTS[split])
        for theirs in stock:
            mine = files[theirs['data_samples'].img_path]
            assert torch.equal(mine['inputs'], theirs['inputs'])
            assert mine['data_samples'].gt_label == theirs['data_samples'].gt_label
    assert sum(file.stat().st_size for file in tmp_path.glob('**/*.arrow')) < 10_000


def test_classes_of_folders_are_numbered_over_all_splits(folder, tmp_path):
    shutil.copytree(folder, tmp_path / 'folder')
    shutil.rmtree(tmp_path / 'folder/val/cat')
    ours = build(tmp_path / 'folder', tmp_path / 'cache', split='val')
    assert ours.metainfo['classes'] == CLASSES
    assert sorted(ours.get_gt_labels().tolist()) == [1, 1, 2, 2]


def test_only_the_split_asked_for_is_converted_and_only_once(parquet, tmp_path, monkeypatch):
    said = []

    def print_log(message, logger):
        assert not list(tmp_path.glob('**/*.arrow'))  # before it is written
        said.append(message)

    monkeypatch.setattr(hf_tables, 'print_log', print_log)
    build(parquet, tmp_path)
    (file,) = tmp_path.glob('**/*.arrow')
    size = sum(shard.stat().st_size for shard in parquet.glob('train*'))
    (message,) = said
    assert message.startswith(
        f"'{parquet}', split 'train': converting it once, into about "
        f'{size / 1000:.1f} kB under {tmp_path}'
    )
    assert abs(file.stat().st_size / size - 1) < 0.5
    written = file.stat().st_mtime_ns
    build(parquet, tmp_path)
    assert file.stat().st_mtime_ns == written
    assert len(said) == 1


@pytest.mark.slow
def test_a_file_that_changes_is_converted_anew(tables, parquet, tmp_path):
    shutil.copytree(parquet, tmp_path / 'made')
    assert len(build(tmp_path / 'made', tmp_path / 'cache')) == 12
    tables['validation'].to_parquet(tmp_path / 'made/train-00001-of-00002.parquet')
    assert len(build(tmp_path / 'made', tmp_path / 'cache')) == 6 + 5


def test_a_disk_that_is_too_small_is_told_first(parquet, tmp_path, monkeypatch):
    monkeypatch.setattr(
        hf_tables.shutil, 'disk_usage', lambda place: shutil._ntuple_diskusage(10, 9, 1)
    )
    with pytest.raises(
        UserError,
        match=r'kB when converted, and the disk of '
        r"its cache '.*' has 1 byte free; set cache_dir",
    ):
        build(parquet, tmp_path)
    assert not list(tmp_path.glob('**/*.arrow'))


def batches(dataset):
    """What workers load in the order of repeated augmentation."""
    loader = DataLoader(
        dataset,
        batch_size=3,
        num_workers=2,
        sampler=RepeatAugSampler(dataset, num_repeats=3, seed=1),
        collate_fn=pseudo_collate,
    )
    return [
        (sample.sample_idx, image.tolist())
        for batch in loader
        for sample, image in zip(batch['data_samples'], batch['inputs'])
    ]


@pytest.mark.slow
def test_workers_load_the_same(folder, parquet, tmp_path):
    ours = build(parquet, tmp_path)
    ours[0]  # read before workers are made
    stock = CustomDataset(data_prefix=str(folder / 'train'), pipeline=PIPELINE)
    assert batches(ours) == batches(stock)


@pytest.mark.slow
def test_workers_get_the_place_of_images_and_not_images(tables, tmp_path):
    sizes = []
    for repeats in (1, 40):
        root = tmp_path / str(repeats)
        datasets.concatenate_datasets([tables['train']] * repeats).to_parquet(
            root.with_suffix('.parquet')
        )
        root.mkdir()
        root.with_suffix('.parquet').rename(root / 'train.parquet')
        ours = build(root, tmp_path / 'cache')
        copied = pickle.loads(pickle.dumps(ours))
        assert torch.equal(copied[7]['inputs'], ours[7]['inputs'])
        sizes.append(len(pickle.dumps(ours)))
    assert (sizes[1] - sizes[0]) / (39 * 12) < 300  # bytes an image


@pytest.mark.slow
def test_the_hosts_wrappers_and_subsets(folder, parquet, tmp_path):
    stock_of = partial(CustomDataset, data_prefix=str(folder / 'train'), pipeline=PIPELINE)
    picked = [8, 2, 3]
    for ours, stock in [
        (build(parquet, tmp_path, indices=picked), stock_of(indices=picked)),
        (
            build(parquet, tmp_path, serialize_data=False).get_subset(-3),
            stock_of(serialize_data=False).get_subset(-3),
        ),
    ]:
        assert_same_samples(ours, stock)
    ours, stock = build(parquet, tmp_path), stock_of()
    assert_same_samples(ours.get_subset(picked), stock.get_subset(picked))
    assert (
        ClassBalancedDataset(ours, 0.5).repeat_indices
        == ClassBalancedDataset(stock, 0.5).repeat_indices
    )


def test_what_the_loading_step_is_given_holds(parquet, tmp_path):
    grey = build(
        parquet,
        tmp_path,
        pipeline=[
            dict(
                type='mmcv.LoadImageFromFile',
                color_type='grayscale',
                to_float32=True,
                imdecode_backend='pillow',
            )
        ],
    )[0]
    assert grey['img'].shape == (20, 30)
    assert grey['img'].dtype == np.float32
    assert 'img_bytes' not in grey


@pytest.mark.slow
def test_a_damaged_image_is_named(tmp_path):
    write_table(tmp_path / 'made', [b'no image', b''], [0, 0])
    options = dict(root=tmp_path / 'made', cache=tmp_path / 'cache', classes=['a'])
    for row in range(2):
        # the latter once a command is imported, which names files in errors
        with pytest.raises(
            (AssertionError, UserError),
            match=rf'failed to load image: {tmp_path}/made/train/{row}\b',
        ):
            build(**options)[row]
    skipping = build(**options, pipeline=[dict(PIPELINE[0], ignore_empty=True)], test_mode=True)
    with pytest.raises(Exception, match='should not get `None`'):
        skipping[1]


def write_table(root, images, labels, **more):
    import pyarrow as pa
    from pyarrow import parquet

    root.mkdir()
    parquet.write_table(
        pa.table(dict(image=pa.array(images, pa.binary()), label=labels, **more)),
        root / 'train.parquet',
    )


def test_the_library_is_missing(parquet, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'datasets', None)
    with pytest.raises(UserError, match=r"pip install 'mmtlalign\[hf\]'"):
        build(parquet, tmp_path)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(split='test'), "has no split 'test', only train, validation"),
        (dict(image_column='img'), "has no column 'img', only image, label: set image_column"),
        (dict(label_column='fine'), "has no column 'fine', only image, label: set label_column"),
        (
            dict(image_column='label'),
            "column 'label' .* is of type ClassLabel"
            '.*, and encoded images are wanted: set image_column to another of',
        ),
        (
            dict(label_column='image'),
            "column 'image' .* is of type Image"
            '.*, and class labels or integers are wanted: set label_column',
        ),
        (dict(classes=['cat', 'dog']), 'has 3 classes, and the config names 2'),
        (
            dict(classes=['dog', 'cat', 'emu']),
            'the classes of the config in '
            r'another order \(cat, dog, emu, ...\): leave classes out',
        ),
        (dict(config_name='other'), r"'other' not found. Available: \['default"),
    ],
)
def test_what_does_not_fit_is_told_before_converting(parquet, tmp_path, kwargs, message):
    with pytest.raises(UserError, match=message) as raised:
        build(parquet, tmp_path, **kwargs)
    assert '\n' not in str(raised.value)
    assert str(parquet) in str(raised.value)
    assert not list(tmp_path.glob('**/*.arrow'))


def test_classes_may_be_renamed(parquet, tmp_path):
    names = 'Katze', 'Hund', 'Emu'
    assert build(parquet, tmp_path, classes=names).metainfo['classes'] == names


@pytest.mark.parametrize(
    'labels, kwargs, message',
    [
        ([0, 1], {}, "column 'label', have no names: set classes to them"),
        (
            [0, 2],
            dict(classes=['a', 'b']),
            'has 1 labels that are none of its 2 classes; the first is 2, in row 1',
        ),
        (
            [-1, -1],
            dict(classes=['a', 'b']),
            'has 2 labels that .* the first is -1, in row 0: is it a split without labels',
        ),
        ([0, None], dict(classes=['a', 'b']), 'the first is None, in row 1'),
        (['a', 'b'], {}, r"is of type Value\('string'\), and class labels or"),
    ],
)
def test_labels_that_are_none(tmp_path, labels, kwargs, message):
    write_table(tmp_path / 'made', [b'', b''], labels)
    with pytest.raises(UserError, match=message):
        build(tmp_path / 'made', tmp_path / 'cache', **kwargs)


def test_an_image_that_is_none(tmp_path):
    write_table(tmp_path / 'made', [b'', None], [0, 0])
    with pytest.raises(UserError, match='has no image in row 1'):
        build(tmp_path / 'made', tmp_path / 'cache', classes=['a'])


def test_an_empty_table(tables, tmp_path):
    from pyarrow import ipc

    with ipc.new_stream(tmp_path / 'train.arrow', tables['train'].data.table.schema):
        pass
    with pytest.raises(UserError, match=f"{tmp_path}', split 'train' is emp"):
        build(tmp_path, tmp_path / 'cache')
    write_table(tmp_path / 'made', [], np.array([], int))
    with pytest.raises(UserError, match="made' cannot be read .*hold images"):
        build(tmp_path / 'made', tmp_path / 'cache', classes=['a'])


def written(name, content):
    """A way to make a folder of one file."""

    def make(root):
        root.mkdir()
        (root / name).write_bytes(content(root) if callable(content) else content)

    return make


class Evil:
    def __init__(self, root):
        self.path = str(root.parent / 'executed')

    def __reduce__(self):
        return open, (self.path, 'w')


def weights_in_a_tar(root):
    root.mkdir()
    file = io.BytesIO()
    torch.save(Evil(root), file)
    with tarfile.open(root / 'train.tar', 'w') as tar:
        add(tar, '0.cls', b'0')
        add(tar, '0.jpg', b'')
        add(tar, '0.pth', file.getvalue())


def a_script(root):
    written('train.csv', b'image,label\na.jpg,0\n')(root)
    (root / f'{root.name}.py').write_text(f'open({str(root.parent / "executed")!r}, "w")')


@pytest.mark.parametrize(
    'make, message',
    [
        (
            lambda root: None,
            "made' is no folder: set another; a data set of the "
            'hub is written hf://datasets/OWNER/NAME',
        ),
        (lambda root: root.write_text(''), "made' is no folder"),
        (lambda root: root.mkdir(), "made' cannot be read .*it must hold images in"),
        (
            written('train.parquet', b'PAR1' + bytes(40)),
            "made' cannot be read .*it must hold images in",
        ),
        (
            written('train.csv', b'image,label\na.jpg,0\n'),
            "made' is in the format csv, not in one of parquet, ",
        ),
        (a_script, 'scripts are no longer supported, but found made.py'),
        (written('train.pkl', lambda root: pickle.dumps(Evil(root))), "made' cannot be read"),
        (weights_in_a_tar, "made' cannot be read"),
    ],
)
def test_what_is_no_data_set_is_told_and_not_executed(tmp_path, make, message):
    make(tmp_path / 'made')
    with pytest.raises(UserError, match=message) as raised:
        build(
            tmp_path / 'made',
            tmp_path / 'cache',
            image_column='jpg',
            label_column='cls',
            classes=['a'],
        )
    assert '\n' not in str(raised.value)
    assert not (tmp_path / 'executed').exists()


def test_pickles_in_a_tar_stay_bytes(tables, tmp_path):
    kwargs = write_tar(tables, tmp_path / 'made')
    with tarfile.open(tmp_path / 'made/train-0.tar', 'w') as tar:
        add(tar, '0.cls', b'2')
        add(tar, '0.jpg', b'')
        add(tar, '0.pickle', pickle.dumps(Evil(tmp_path / 'made')))
    ours = build(tmp_path / 'made', tmp_path / 'cache', **kwargs)
    assert ours.get_gt_labels().tolist() == [2, *tables['train']['label'][6:]]
    assert not (tmp_path / 'executed').exists()


def test_a_data_set_of_the_hub(parquet, tmp_path, monkeypatch):
    """No network here: the library is asked for what it is to fetch."""
    asked = []
    stock = datasets.load_dataset_builder

    def load_dataset_builder(path, *args, revision=None, **kwargs):
        asked.append((path, revision))
        if path.startswith('hf://'):
            path = str(parquet)
        return stock(path, *args, **kwargs)

    monkeypatch.setattr(datasets, 'load_dataset_builder', load_dataset_builder)
    for root in ('hf://datasets/owner/name', 'hf://datasets/owner/name@v1'):
        ours = build(root, tmp_path, split='val')
        assert len(ours) == 5
        assert ours[0]['data_samples'].img_path.startswith(root)
    assert asked[::2] == [('hf://datasets/owner/name', None), ('hf://datasets/owner/name', 'v1')]
