import io
import json
import runpy
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from mmtlalign.datasets import Digits
from mmtlalign.errors import UserError

from ..conftest import ROOT

coco_api = pytest.importorskip('pycocotools.coco', reason='mmdet is not installed')
from pycocotools import mask as coco_mask  # noqa: E402

COUNTS = dict(train=12, val=6)


def run_tool(name, *arguments):
    """Call the main function of a tool in this process."""
    folder = ROOT / 'tools/dataset_tools'
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr('sys.argv', [name, *map(str, arguments)])
        runpy.run_path(f'{folder}/{name}.py')['main']()


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run a tool here."""
    monkeypatch.chdir(tmp_path)
    return run_tool


@pytest.fixture
def refused(call):
    """Run a tool here, up to a mistake; returns the line that says it."""

    def run(name, *arguments):
        with pytest.raises(UserError) as ended:
            call(name, *arguments)
        assert '\n' not in str(ended.value)
        return str(ended.value)

    return run


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """The scenes of both splits."""
    folder = tmp_path_factory.mktemp('made') / 'scenes'
    run_tool('make_digit_scenes', '--train', 12, '--val', 6, '--out', folder)
    return folder


def read(scenes, split):
    """Pictures, label maps and the COCO file of one split."""
    coco = json.loads((scenes / 'annotations' / f'instances_{split}.json').read_text())
    pictures, maps = (
        [
            cv2.imread(str(scenes / kind / split / image['file_name']), cv2.IMREAD_UNCHANGED)
            for image in coco['images']
        ]
        for kind in ('images', 'annotations')
    )
    return pictures, maps, coco


def decoded(rle):
    """Bool mask, by pycocotools."""
    return coco_mask.decode(coco_mask.frPyObjects(rle, *rle['size'])).astype(bool)


@pytest.mark.slow
@pytest.mark.parametrize('split', COUNTS)
def test_scenes_and_what_is_told_of_them(scenes, split):
    pictures, maps, coco = read(scenes, split)
    assert len(pictures) == len(list((scenes / 'images' / split).iterdir())) == COUNTS[split]
    for image in (*pictures, *maps):
        assert image.shape == (128, 128) and image.dtype == np.uint8
    assert [c['name'] for c in coco['categories']] == list('0123456789')
    annotations = coco['annotations']
    assert [a['id'] for a in annotations] == list(range(1, len(annotations) + 1))
    per_image = np.bincount([a['image_id'] for a in annotations])
    assert len(per_image) == COUNTS[split]
    assert per_image.min() >= 1 and 2 < per_image.max() <= 8

    digits = Digits(split, pipeline=[])
    union = [np.zeros((128, 128), int) for _ in maps]
    for annotation in annotations:
        mask = decoded(annotation['segmentation'])
        x, y, width, height = annotation['bbox']
        inside = mask[y : y + height, x : x + width]
        assert inside.sum() == mask.sum() == annotation['area'] > 0
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.any()
        union[annotation['image_id']][mask] += annotation['category_id']
        # it looks like the digit of this split that it says it is
        info = digits.get_data_info(annotation['digit'])
        assert annotation['category_id'] == info['gt_label'] + 1
        shown = pictures[annotation['image_id']][y : y + height, x : x + width]
        rows, columns = np.nonzero(info['img'][..., 0] > 0.4 * 255)
        original = info['img'][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1, 0]
        original = cv2.resize(original, (width, height))
        assert np.corrcoef(shown.ravel(), original.ravel())[0, 1] > 0.8
    # digits do not overlap, so no sum of two occurs
    np.testing.assert_array_equal(maps, union)


def test_scenes_follow_the_seed(scenes, call, tmp_path):
    for name, seed in (('same', 0), ('other', 1)):
        call('make_digit_scenes', '--train', 1, '--val', 6, '--out', name, '--seed', seed)
    file = 'annotations/instances_val.json'
    text = (scenes / file).read_text()
    assert (tmp_path / 'same' / file).read_text() == text
    assert (tmp_path / 'other' / file).read_text() != text
    first, again = (read(folder, 'val')[0] for folder in (scenes, tmp_path / 'same'))
    np.testing.assert_array_equal(first, again)
    # the splits do not repeat each other's draws
    assert (read(scenes, 'train')[0][0] != first[0]).any()


def test_scenes_are_whole_or_not_there(call, refused, tmp_path, monkeypatch):
    few = ('make_digit_scenes', '--train', '2', '--val', '1')

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr('json.dumps', interrupt)
        call(*few)
    assert not list((tmp_path / 'data').iterdir())
    call(*few)
    assert sum(path.is_file() for path in tmp_path.rglob('*')) == 2 * (2 + 1) + 2
    assert "'data/digit_scenes' exists already" in refused(*few)


# CIFAR-10 ----------------------------------------------------------------


@pytest.fixture
def cifar(monkeypatch):
    """Few images, of one colour each, for torchvision's, by whether to train on them."""
    rng = np.random.default_rng(0)
    sets = {}
    for train, count in ((True, 9), (False, 12)):
        colours = rng.integers(0, 256, (count, 1, 1, 3), np.uint8)
        sets[train] = SimpleNamespace(
            data=colours.repeat(32, 1).repeat(32, 2),
            targets=[i % 3 for i in range(count)],
            classes=['airplane', 'automobile', 'bird'],
        )
    monkeypatch.setattr('torchvision.datasets.CIFAR10', lambda _, train, download: sets[train])
    return sets


def test_folders_of_cifar(cifar, call, refused, tmp_path):
    call('cifar10_to_folders', '--out', '.')
    for split, count in (('train', 3), ('val', 2)):
        source = cifar[split == 'train']
        # the targets are 0, 1, 2, 0, 1, 2, ...
        expected = {
            f'{name}/{i:04}.jpg': source.data[3 * i + label]
            for label, name in enumerate(source.classes)
            for i in range(count)
        }
        found = (tmp_path / split).rglob('*.*')
        assert {path.relative_to(tmp_path / split).as_posix() for path in found} == set(expected)
        for name, rgb in expected.items():
            file = Image.open(tmp_path / split / name)
            np.testing.assert_allclose(np.asarray(file, int), rgb, atol=5)
            other = io.BytesIO()
            file.save(other, 'JPEG', quality=75)
            assert file.quantization == Image.open(other).quantization
    shutil.rmtree(tmp_path / 'train')
    assert "'val' exists already" in refused('cifar10_to_folders', '--out', '.')


def test_missing_archive_of_cifar(refused, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError('no route to host')

    monkeypatch.setattr('torchvision.datasets.CIFAR10', no_network)
    said = refused('cifar10_to_folders')
    for part in ('no intact cifar-10-python.tar.gz', 'no route to host', '--archive-dir'):
        assert part in said


# BCCD ---------------------------------------------------------------------

VOC = """<annotation><size><width>64</width><height>48</height></size>
<object><name>WBC</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>25</xmax>
<ymax>16</ymax></bndbox></object>
<object><name>RBC</name><bndbox><xmin>7</xmin><ymin>7</ymin><xmax>7</xmax>
<ymax>7</ymax></bndbox></object></annotation>"""


@pytest.fixture
def bccd(tmp_path):
    """A folder like that of the data set, two images in each split."""
    source = tmp_path / 'BCCD'
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (source / folder).mkdir(parents=True)
    for i, split in enumerate(('train', 'val', 'test')):
        names = [f'{2 * i + 1:05}', f'{2 * i:05}']
        (source / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))
        for name in names:
            (source / f'Annotations/{name}.xml').write_text(VOC)
            cv2.imwrite(str(source / f'JPEGImages/{name}.jpg'), np.zeros((48, 64, 3), np.uint8))
    return source


def test_bccd_in_cocos_format(bccd, call, refused, tmp_path):
    call('bccd_to_coco', 'BCCD')
    out = tmp_path / 'data/bccd'
    assert sorted(path.name for path in out.rglob('*.jpg')) == [
        f'{i:05}.jpg' for i in range(4)
    ]  # none of the test split
    coco = coco_api.COCO(out / 'annotations/instances_val.json')
    assert [cat['name'] for cat in coco.loadCats(coco.getCatIds())] == ['RBC', 'WBC', 'Platelets']
    names = [image['file_name'] for image in coco.loadImgs(coco.getImgIds())]
    assert names == ['00002.jpg', '00003.jpg']
    first, second = coco.loadAnns(coco.getAnnIds())
    assert (first['bbox'], first['area']) == ([5, 6, 20, 10], 200)
    assert (first['category_id'], second['image_id']) == (2, 2)
    assert "'data/bccd' exists already" in refused('bccd_to_coco', 'BCCD')


# CamVid --------------------------------------------------------------------


@pytest.fixture
def camvid(tmp_path):
    """A folder like that of the data set, with every class in each map."""
    source = tmp_path / 'CamVid'
    labels = np.arange(12, dtype=np.uint8).repeat(8).reshape(8, 12)
    for split in ('train', 'val', 'test'):
        for folder, content in ((split, np.dstack([labels * 20] * 3)), (f'{split}annot', labels)):
            (source / folder).mkdir(parents=True)
            for i in range(2):
                cv2.imwrite(str(source / f'{folder}/{i}.png'), content)
    return source


def test_camvid_in_folders(camvid, call, refused, tmp_path):
    call('camvid_to_folders', 'CamVid')
    out = tmp_path / 'data/camvid'
    assert {path.relative_to(out).as_posix() for path in out.rglob('*.*')} == {
        f'{kind}/{split}/{i}{suffix}'
        for split in ('train', 'val')
        for kind, suffix in (('images', '.jpg'), ('annotations', '.png'))
        for i in range(2)
    }
    given = cv2.imread(str(camvid / 'valannot/1.png'), cv2.IMREAD_UNCHANGED)
    written = cv2.imread(str(out / 'annotations/val/1.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, np.where(given == 11, 255, given))
    picture = cv2.imread(str(out / 'images/val/1.jpg')).astype(int)
    assert abs(picture - cv2.imread(str(camvid / 'val/1.png'))).mean() < 8
    assert "'data/camvid' exists already" in refused('camvid_to_folders', 'CamVid')


# Mistakes ------------------------------------------------------------------

VAL, XML = 'BCCD/ImageSets/Main/val.txt', 'BCCD/Annotations/00003.xml'
JPG, PNG, MAP = 'BCCD/JPEGImages/00003.jpg', 'CamVid/val/1.png', 'CamVid/valannot/1.png'
COLOURED = cv2.imencode('.png', np.full((8, 12, 3), 20, np.uint8))[1].tobytes()


@pytest.fixture
def maps(tmp_path):
    """Two objects of one class that touch, one of another, and a rim that is none."""
    labels = np.zeros((12, 20), np.uint8)
    labels[2:6, 2:5], labels[2:6, 5:9], labels[8:11, 3:6], labels[8:11, 14:18] = 8, 8, 8, 3
    numbers = np.zeros_like(labels)
    numbers[2:6, 2:5], numbers[2:6, 5:9], numbers[8:11, 3:6], numbers[8:11, 14:18] = 1, 2, 3, 9
    labels[0], numbers[0], numbers[2, 2] = 255, 255, 255
    for name, values in dict(labels=labels, numbers=numbers).items():
        (tmp_path / name).mkdir()
        image = Image.fromarray(values)
        image.putpalette([*range(256)] * 3)  # as those of VOC
        image.save(tmp_path / name / 'a.png')
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (20, 12)).save(tmp_path / 'images/a.jpg')
    return labels, numbers


@pytest.mark.parametrize('numbered', [False, True])
def test_objects_of_label_maps(maps, call, tmp_path, numbered):
    options = ['--objects', 'numbers'] if numbered else []
    call('label_maps_to_coco', 'images', 'labels', *options, '--classes', 'car=8', 'tree=3')
    coco = coco_api.COCO('objects.json')
    found = {
        (part['category_id'], part['area'], *part['bbox']): coco.annToMask(part)
        for part in coco.anns.values()
    }
    labels, numbers = maps
    cars = {(1, 11, 2, 2, 3, 4), (1, 16, 5, 2, 4, 4)} if numbered else {(1, 28, 2, 2, 7, 4)}
    assert {*found} == cars | {(1, 9, 3, 8, 3, 3), (2, 12, 14, 8, 4, 3)}
    for category, value in (1, 8), (2, 3):
        together = sum(mask for key, mask in found.items() if key[0] == category)
        shown = (labels == value) & (numbers != 255 if numbered else True)
        np.testing.assert_array_equal(together, shown)
    assert [cat['name'] for cat in coco.cats.values()] == ['car', 'tree']
    assert coco.imgs[1]['file_name'] == 'a.jpg'


@pytest.mark.parametrize(
    'arguments, message',
    [
        ('images labels --classes car', "'car' is not NAME=VALUE"),
        ('images labels --classes car=8=9', "'car=8=9' is not NAME=VALUE"),
        ('images labels --classes car=8,tree=3', "'car=8,tree=3' is not NAME=VALUE"),
        ('images labels --classes car=300', 'from 0 to 255'),
        (f'images labels --classes car={"9" * 5000}', 'from 0 to 255'),
        ('images labels --classes car=8 bus=8', 'a value twice'),
        ('images labels --classes car=8 bus=7', 'there is no object bus=7'),
        ('images images --classes car=8', 'holds no label maps'),
        ('images labels --objects labels --classes car=8', 'are the label maps'),
        ('images labels --objects images --classes car=8', "a.png' does not exist"),
        ('images labels --objects gone --classes car=8', "'gone' is no folder"),
        ('numbers/.. labels --classes car=8', 'has 0 images a '),
    ],
)
def test_label_maps_without_objects_to_list(maps, refused, tmp_path, arguments, message):
    assert message in refused('label_maps_to_coco', *arguments.split())
    assert not (tmp_path / 'objects.json').exists()


def test_label_maps_in_colours_are_refused(maps, refused, tmp_path):
    Image.new('RGB', (20, 12)).save(tmp_path / 'labels/a.png')
    said = refused('label_maps_to_coco', 'images', 'labels', '--classes', 'car=8')
    assert "a.png' has the shape (12, 20, 3)" in said
    Image.new('L', (3, 2)).save(tmp_path / 'labels/a.png')
    options = '--classes', 'car=8'
    said = refused('label_maps_to_coco', 'images', 'labels', '--objects', 'numbers', *options)
    assert "numbers/a.png' has (12, 20) pixels" in said and 'belong to other images' in said
    said = refused('label_maps_to_coco', 'images', 'labels', *options)
    assert "images/a.jpg' has (20, 12) px" in said and 'belong to other images' in said
    Image.new('RGB', (3, 2)).save(tmp_path / 'images/a.png')
    assert 'has 2 images a ' in refused('label_maps_to_coco', 'images', 'labels', *options)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, content, message',
    [
        (VAL, None, f"'{VAL}' does not exist"),
        (VAL, b'\xff\xfe', 'is no text in UTF-8'),
        # files of such names would be read and written anywhere
        (VAL, '00003\n../JPEGImages/00003', "names '../JPEGImages/00003', which is no name of an"),
        (VAL, '00003\n/etc/secret', 'which is no name of an image'),
        (VAL, '00003\n..', 'which is no name of an image'),
        (VAL, 'sub/00003', 'which is no name of an image'),
        (VAL, 'a\\b', 'which is no name of an image'),
        (XML, None, f"'{XML}' does not exist"),
        (XML, VOC[:-9], f"'{XML}' is damaged"),
        (XML, VOC.replace('WBC', 'wbc'), "has a 'wbc', which is none of RBC,"),
        (XML, VOC.replace('>5<', '>nan<'), f"{XML}' has 'nan' for bndbox/xmin, which is no number"),
        (XML, VOC.replace('<width>64</width>', ''), 'has None for size/width'),
        (XML, VOC.replace('>64<', '>1e999<'), "has '1e999' for size/width"),
        (JPG, None, f"'{JPG}' does not exist"),
        (JPG, 'no image', f"'{JPG}' is no intact image"),
        ('CamVid/val', None, "'CamVid/val' holds no images"),
        (PNG, 'no image', f"'{PNG}' is no intact image"),
        (MAP, None, f"'{MAP}' does not exist"),
        (MAP, COLOURED, f"'{MAP}' is no map of class ids 0 to 11"),
    ],
)
def test_what_is_missing_or_damaged_is_named(
    bccd, camvid, refused, tmp_path, name, content, message
):
    path = tmp_path / name
    if content is None:
        path.unlink() if path.is_file() else shutil.rmtree(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = name.split('/')[0]
    tool = dict(BCCD='bccd_to_coco', CamVid='camvid_to_folders')[source]
    assert message in refused(tool, source)
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize(
    'option, message',
    [
        (['--train', '0'], '--train 0 is below 1'),
        (['--seed', '-1'], '--seed -1 is below 0'),
        (['--out', '/dev/null/x'], 'cannot be made'),
    ],
)
def test_bad_options_of_scenes(refused, option, message):
    assert message in refused('make_digit_scenes', *option)


def test_a_full_disk_is_told(cifar, refused, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)
    said = refused('cifar10_to_folders')
    assert "/0000.jpg' cannot be written; make room on the disk" in said
