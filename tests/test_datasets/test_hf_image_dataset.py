import io
import os
import pickle
import shutil
import sys
import tarfile

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CustomDataset
from torch.utils.data import DataLoader

from mmtlalign.datasets import HFImageDataset, hf_tables
from mmtlalign.errors import UserError
from projects.reliability.corpus import Call

datasets = pytest.importorskip('datasets', reason="pip install 'mmtlalign[hf]' is missing")
pyarrow = pytest.importorskip('pyarrow')
ipc = pytest.importorskip('pyarrow.ipc')
parquet_file = pytest.importorskip('pyarrow.parquet')

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
        rows = [
            dict(
                image=dict(bytes=path.read_bytes(), path=path.name),
                label=CLASSES.index(path.parent.name),
            )
            for path in sorted((folder / split).glob('*/*'))
        ]
        return datasets.Dataset.from_list(rows, features)

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


@pytest.fixture
def cache(tmp_path):
    return tmp_path / 'cache'


@pytest.fixture
def build(cache):
    def run(root, **kwargs):
        return HFImageDataset(str(root), cache_dir=str(cache), **{'pipeline': PIPELINE, **kwargs})

    return run


@pytest.fixture
def stock(folder):
    """The host's data set of the files."""

    def run(split='train', **kwargs):
        return CustomDataset(data_prefix=str(folder / split), pipeline=PIPELINE, **kwargs)

    return run


def write_stream(tables, root):
    tables.save_to_disk(root.parent / 'to_move')
    root.mkdir()
    for split in tables:
        (file,) = (root.parent / 'to_move' / split).glob('*.arrow')
        file.rename(root / f'{split}.arrow')


def write_ipc_file(tables, root):
    root.mkdir()
    table = tables['train'].data.table
    with ipc.new_file(root / 'train.arrow', table.schema) as file:
        file.write_table(table)


def encoded(tables):
    return tables['train'].cast_column('image', datasets.Image(decode=False))


def write_tar(tables, root):
    rows = [(row['image']['bytes'], b'%d' % row['label']) for row in encoded(tables)]
    for k in range(2):
        members = {}
        for i, (image, label) in enumerate(rows[6 * k : 6 * k + 6]):
            members.update({f'{i:03}.jpg': image, f'{i:03}.cls': label})
        pack(root / f'train-{k}.tar', members)
    return dict(image_column='jpg', label_column='cls', classes=CLASSES)


def pack(path, members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, 'w') as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_foreign(tables, root):
    """As other programs do: no features of the library's, bytes alone."""
    rows = encoded(tables)
    write_table(root, [row['image']['bytes'] for row in rows], np.array(rows['label'], np.int16))
    return dict(classes=CLASSES)


def write_table(root, images, labels):
    root.mkdir()
    table = pyarrow.table(dict(image=pyarrow.array(images, pyarrow.binary()), label=labels))
    parquet_file.write_table(table, root / 'train.parquet')


def assert_same_samples(ours, stock, workers=0):
    assert len(ours) == len(stock) > 0
    assert ours.metainfo == stock.metainfo
    for mine, theirs in zip(DataLoader(ours, batch_size=None, num_workers=workers), stock):
        assert torch.equal(mine['inputs'], theirs['inputs'])
        for key in ('gt_label', 'ori_shape', 'sample_idx'):
            assert mine['data_samples'].get(key) == theirs['data_samples'].get(key)


@pytest.mark.slow
@pytest.mark.parametrize('split', ['train', 'val'])
def test_parquet_is_the_folder(build, stock, parquet, split):
    ours, theirs = build(parquet, split=split), stock(split)
    name = os.path.basename(theirs[2]['data_samples'].img_path)
    assert ours[2]['data_samples'].img_path == str(parquet / split / '2' / name)
    assert_same_samples(ours, theirs, workers=2)  # made after one was read
    assert ours.get_gt_labels().tolist() == theirs.get_gt_labels().tolist()
    names = 'Katze', 'Hund', 'Emu'
    assert build(parquet, split=split, classes=names).metainfo['classes'] == names


@pytest.mark.slow
@pytest.mark.parametrize(
    'write',
    [
        lambda tables, root: tables.save_to_disk(root),
        lambda tables, root: tables['train'].save_to_disk(root),
        write_stream,
        write_ipc_file,
        write_tar,
        write_foreign,
    ],
)
def test_every_format_is_the_folder(build, stock, tables, tmp_path, cache, write):
    kwargs = write(tables, tmp_path / 'made') or {}
    assert_same_samples(build(tmp_path / 'made', **kwargs), stock())
    is_converted = write in (write_ipc_file, write_tar, write_foreign)
    assert is_converted == any(cache.glob('**/*.arrow'))


@pytest.mark.slow
def test_images_in_folders_are_read_where_they_lie(build, stock, folder, cache):
    for split in COUNTS:
        ours = build(folder, split=split)
        files = {data['data_samples'].img_path: data for data in ours}
        assert len(files) == sum(COUNTS[split])
        assert ours.metainfo == stock(split).metainfo
        for theirs in stock(split):
            mine = files.pop(theirs['data_samples'].img_path)
            assert torch.equal(mine['inputs'], theirs['inputs'])
            assert mine['data_samples'].gt_label == theirs['data_samples'].gt_label
        assert not files
    assert sum(file.stat().st_size for file in cache.glob('**/*.arrow')) < 10_000


def test_classes_of_folders_are_numbered_over_all_splits(build, folder, tmp_path):
    shutil.copytree(folder, tmp_path / 'folder')
    shutil.rmtree(tmp_path / 'folder/val/cat')
    ours = build(tmp_path / 'folder', split='val')
    assert ours.metainfo['classes'] == CLASSES
    assert sorted(ours.get_gt_labels().tolist()) == [1, 1, 2, 2]


@pytest.mark.slow
def test_the_split_asked_for_is_converted_once(build, tables, parquet, tmp_path, monkeypatch):
    cache, made, said = tmp_path / 'cache', tmp_path / 'made', []

    def print_log(message, logger):
        assert said or not list(cache.glob('**/*.arrow'))  # before it is written
        said.append(message)

    shutil.copytree(parquet, made)
    monkeypatch.setattr(hf_tables, 'print_log', print_log)
    assert len(build(made)) == 12
    (file,) = cache.glob('**/*.arrow')
    size = sum(shard.stat().st_size for shard in made.glob('train*'))
    (message,) = said
    assert message.startswith(
        f"'{made}', split 'train': converting it once, into about {size / 1000:.1f} kB "
        f'under {cache}'
    )
    assert abs(file.stat().st_size / size - 1) < 0.5
    written = file.stat().st_mtime_ns
    build(made)
    assert file.stat().st_mtime_ns == written and len(said) == 1
    # anew where a file has changed
    tables['validation'].to_parquet(made / 'train-00001-of-00002.parquet')
    assert len(build(made)) == 6 + 5


def test_a_disk_that_is_too_small_is_told_first(build, parquet, cache, monkeypatch):
    monkeypatch.setattr(
        hf_tables.shutil, 'disk_usage', lambda place: shutil._ntuple_diskusage(10, 9, 1)
    )
    too_small = "kB when converted, and the disk of its cache '.*' has 1 byte free; set cache_dir"
    with pytest.raises(UserError, match=too_small):
        build(parquet)
    assert not list(cache.glob('**/*.arrow'))


def test_workers_get_the_place_of_images_and_not_images(build, parquet):
    ours = build(parquet)
    pickled, fewer = pickle.dumps(ours), pickle.dumps(build(parquet, split='val'))
    assert torch.equal(pickle.loads(pickled)[7]['inputs'], ours[7]['inputs'])
    assert (len(pickled) - len(fewer)) / (12 - 5) < 300  # bytes an image


def test_subsets(build, stock, parquet):
    picked = [8, 2, 3]
    assert_same_samples(build(parquet, indices=picked), stock(indices=picked))
    assert_same_samples(build(parquet).get_subset(picked), stock().get_subset(picked))


def test_what_the_loading_step_is_given_holds(build, parquet):
    options = dict(color_type='grayscale', to_float32=True, imdecode_backend='pillow')
    grey = build(parquet, pipeline=[dict(type='mmcv.LoadImageFromFile', **options)])[0]
    assert grey['img'].shape == (20, 30)
    assert grey['img'].dtype == np.float32
    assert 'img_bytes' not in grey


@pytest.mark.slow
def test_a_damaged_image_is_named(build, tmp_path):
    made = tmp_path / 'made'
    write_table(made, [b'no image', b''], [0, 0])
    for row in range(2):
        # the latter once a command is imported, which names files in errors
        with pytest.raises(
            (AssertionError, UserError), match=rf'failed to load image: {made}/train/{row}\b'
        ):
            build(made, classes=['a'])[row]
    step = dict(PIPELINE[0], ignore_empty=True)
    skipping = build(made, classes=['a'], pipeline=[step], test_mode=True)
    with pytest.raises(Exception, match='should not get `None`'):
        skipping[1]


def test_the_library_is_missing(build, parquet, monkeypatch):
    monkeypatch.setitem(sys.modules, 'datasets', None)
    with pytest.raises(UserError, match=r"pip install 'mmtlalign\[hf\]'"):
        build(parquet)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(split='test'), "has no split 'test', only train, validation"),
        (dict(image_column='img'), "has no column 'img', only image, label: set image_column"),
        (dict(label_column='fine'), "has no column 'fine', only image, label: set label_column"),
        (
            dict(image_column='label'),
            "column 'label' .* is of type ClassLabel.*, and encoded images are wanted: "
            'set image_column to another of',
        ),
        (
            dict(label_column='image'),
            "column 'image' .* is of type Image.*, and class labels or integers are wanted: "
            'set label_column',
        ),
        (dict(classes=['cat', 'dog']), 'has 3 classes, and the config names 2'),
        (
            dict(classes=['dog', 'cat', 'emu']),
            r'the classes of the config in another order \(cat, dog, emu, ...\): leave classes out',
        ),
        (dict(config_name='other'), r"'other' not found. Available: \['default"),
    ],
)
def test_what_does_not_fit_is_told_before_converting(build, parquet, cache, kwargs, message):
    with pytest.raises(UserError, match=message) as raised:
        build(parquet, **kwargs)
    assert '\n' not in str(raised.value)
    assert str(parquet) in str(raised.value)
    assert not list(cache.glob('**/*.arrow'))


EMPTY, TWO = [b'', b''], dict(classes=['a', 'b'])


@pytest.mark.parametrize(
    'images, labels, kwargs, message',
    [
        (EMPTY, [0, 1], {}, "column 'label', have no names: set classes to them"),
        (
            EMPTY,
            [0, 2],
            TWO,
            'has 1 labels that are none of its 2 classes; the first is 2, in row 1',
        ),
        (
            EMPTY,
            [-1, -1],
            TWO,
            'has 2 labels that .* the first is -1, in row 0: is it a split without labels',
        ),
        (EMPTY, [0, None], TWO, 'the first is None, in row 1'),
        (EMPTY, ['a', 'b'], {}, r"is of type Value\('string'\), and class labels or"),
        ([b'', None], [0, 0], TWO, 'has no image in row 1'),
        ([], np.array([], int), TWO, "made' cannot be read .*hold images"),
    ],
)
def test_rows_that_are_none(build, tmp_path, images, labels, kwargs, message):
    write_table(tmp_path / 'made', images, labels)
    with pytest.raises(UserError, match=message):
        build(tmp_path / 'made', **kwargs)


def test_an_empty_table(build, tables, tmp_path):
    with ipc.new_stream(tmp_path / 'train.arrow', tables['train'].data.table.schema):
        pass
    with pytest.raises(UserError, match=f"{tmp_path}', split 'train' is emp"):
        build(tmp_path)


def evil(root):
    return Call(open, str(root.parent / 'executed'), 'w')


def written(name, content):
    """A way to make a folder of one file."""

    def make(root):
        root.mkdir()
        (root / name).write_bytes(content(root) if callable(content) else content)

    return make


def weights_in_a_tar(root):
    file = io.BytesIO()
    torch.save(evil(root), file)
    pack(root / 'train.tar', {'0.cls': b'0', '0.jpg': b'', '0.pth': file.getvalue()})


def a_script(root):
    written('train.csv', b'image,label\na.jpg,0\n')(root)
    (root / f'{root.name}.py').write_text(f'open({str(root.parent / "executed")!r}, "w")')


UNREADABLE = "made' cannot be read .*it must hold images in"


@pytest.mark.parametrize(
    'make, message',
    [
        (
            lambda root: None,
            "made' is no folder: set another; a data set of the "
            'hub is written hf://datasets/OWNER/NAME',
        ),
        (lambda root: root.write_text(''), "made' is no folder"),
        (lambda root: root.mkdir(), UNREADABLE),
        (written('train.parquet', b'PAR1' + bytes(40)), UNREADABLE),
        (written('train.csv', b'image,label\na.jpg,0\n'), "made' is in the format csv, not in one"),
        (a_script, 'scripts are no longer supported, but found made.py'),
        (written('train.pkl', lambda root: pickle.dumps(evil(root))), UNREADABLE),
        (weights_in_a_tar, UNREADABLE),
    ],
)
def test_what_is_no_data_set_is_told_and_not_executed(build, tmp_path, make, message):
    make(tmp_path / 'made')
    with pytest.raises(UserError, match=message) as raised:
        build(tmp_path / 'made', image_column='jpg', label_column='cls', classes=['a'])
    assert '\n' not in str(raised.value)
    assert not (tmp_path / 'executed').exists()


def test_pickles_in_a_tar_stay_bytes(build, tables, tmp_path):
    made = tmp_path / 'made'
    kwargs = write_tar(tables, made)
    members = {'0.cls': b'2', '0.jpg': b'', '0.pickle': pickle.dumps(evil(made))}
    pack(made / 'train-0.tar', members)
    ours = build(made, **kwargs)
    assert ours.get_gt_labels().tolist() == [2, *tables['train']['label'][6:]]
    assert not (tmp_path / 'executed').exists()


def test_a_data_set_of_the_hub(build, parquet, monkeypatch):
    """No network here: the library is asked for what it is to fetch."""
    asked = []
    stock = datasets.load_dataset_builder

    def load_dataset_builder(path, *args, revision=None, **kwargs):
        asked.append((path, revision))
        path = str(parquet) if path.startswith('hf://') else path
        return stock(path, *args, **kwargs)

    monkeypatch.setattr(datasets, 'load_dataset_builder', load_dataset_builder)
    for root in ('hf://datasets/owner/name', 'hf://datasets/owner/name@v1'):
        ours = build(root, split='val')
        assert len(ours) == 5
        assert ours[0]['data_samples'].img_path.startswith(root)
    assert asked[::2] == [('hf://datasets/owner/name', None), ('hf://datasets/owner/name', 'v1')]
