"""Objects cut out of a scene, and the masks that come with them."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmpretrain.registry import TRANSFORMS
from mmpretrain.utils import register_all_modules
from PIL import Image

from mmtlalign.commands.checks import check_data
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.datasets import LoadObjectCrop, ObjectCrops
from mmtlalign.errors import UserError
from mmtlalign.models.batch_augments import MixRecord
from mmtlalign.models.targets import visible_share

ROWS, COLS = 40, 60
SQUARE = [[10, 12, 30, 12, 30, 28, 10, 28]]  # 20 x 16 px at (10, 12)


@pytest.fixture(autouse=True, scope='module')
def host_scope():
    register_all_modules(init_default_scope=False)


@pytest.fixture
def folder(tmp_path):
    """A scene whose red says the column, and green the row."""
    y, x = np.indices((ROWS, COLS), np.uint8)
    Image.fromarray(np.stack((x, y, 0 * x), -1)).save(tmp_path / 'scene.png')
    return tmp_path


def part(category=1, bbox=(10, 12, 20, 16), **more):
    return dict(dict(id=7, image_id=1, category_id=category, bbox=list(bbox), area=9), **more)


@pytest.fixture
def crops(folder):
    """A data set of annotations; with a pipeline if steps are given."""

    def build(*annotations, steps=(), coco=(), **options):
        scene = dict(id=1, file_name='scene.png', height=ROWS, width=COLS)
        categories = [dict(id=3, name='car'), dict(id=1, name='tree')]
        numbered = [dict(part, id=7 + i) for i, part in enumerate(annotations)]
        content = dict(images=[scene], annotations=numbered, categories=categories)
        (folder / 'objects.json').write_text(json.dumps({**content, **dict(coco)}))
        pipeline = [dict(type='mmtlalign.LoadObjectCrop'), *steps] if steps is not None else []
        return ObjectCrops('objects.json', data_root=str(folder), pipeline=pipeline, **options)

    return build


@pytest.mark.parametrize(
    'bbox, context, expected',
    [
        ((10, 12, 20, 16), 1.5, (5, 5, 30, 30)),
        ((0, 0, 20, 20), 1.5, (0, 0, 30, 30)),  # moved into the scene
        ((40, 20, 20, 20), 1.5, (30, 10, 30, 30)),
        ((10, 0, 40, 40), 2.0, (0, 0, 60, 40)),  # no larger than the scene
        ((10, 12, 20, 16), 1.0, (10, 10, 20, 20)),
    ],
)
def test_squares_lie_around_objects_and_in_the_scene(crops, bbox, context, expected):
    sample = crops(part(bbox=bbox), context=context, shape='box')[0]
    left, top, width, height = expected
    image = sample['img']  # BGR
    assert image.shape[:2] == sample['img_shape'] == (height, width)
    np.testing.assert_array_equal(image[0, :, 2], np.arange(left, left + width))
    np.testing.assert_array_equal(image[:, 0, 1], np.arange(top, top + height))
    x, y, w, h = bbox
    mask = np.zeros((ROWS, COLS))
    mask[y : y + h, x : x + w] = 255
    mask = mask[top : top + height, left : left + width]
    np.testing.assert_array_equal(sample['object_mask'].pixels, mask)


def test_ellipses_fill_boxes(crops):
    mask = crops(part(), shape='ellipse', context=2)[0]['object_mask'].pixels / 255
    rows, cols = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    assert abs(len(rows) - 16) <= 1 and abs(len(cols) - 20) <= 1
    assert mask.sum() == pytest.approx(np.pi * 8 * 10, rel=0.06)


@pytest.mark.parametrize('kind', ['polygon', 'counts', 'string'])
def test_masks_of_coco(crops, kind):
    coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')
    mask = np.zeros((ROWS, COLS), np.uint8)
    mask[12:28, 10:30] = 1
    steps = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0))
    runs = np.diff([0, *steps, mask.size]).tolist()
    string = coco_mask.encode(np.asfortranarray(mask))['counts'].decode()
    shape = dict(
        polygon=SQUARE,
        counts=dict(size=[ROWS, COLS], counts=runs),
        string=dict(size=[ROWS, COLS], counts=string),
    )[kind]
    sample = crops(part(segmentation=shape))[0]
    np.testing.assert_array_equal(sample['object_mask'].pixels, 255 * mask[5:35, 5:35])


def test_labels_and_what_is_left_out(crops):
    annotations = (
        part(1),
        part(3),
        part(3, iscrowd=1),
        part(1, bbox=(0, 0, 30, 9)),
        part(3, bbox=(0, 0, 16, 16)),
    )
    every = crops(*annotations, steps=None, shape='box')
    assert every.read_classes() == every.CLASSES == ('car', 'tree')
    assert every.get_gt_labels().tolist() == [1, 0, 0]
    trees = crops(*annotations, steps=None, shape='box', classes=('tree',), min_size=5)
    assert trees.get_gt_labels().tolist() == [0, 0]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(), 'no mask of annotation 7 .scene.png.*shape='),
        (dict(shape='box', classes=('bus',)), "no category 'bus', but car, tree"),
        (dict(shape='box', min_size=17), 'leaves no object .*: 1 below 17 px'),
        (dict(coco=dict(images=[])), 'annotation 7 with the image_id 1, which is not there'),
        (dict(coco=dict(categories=[])), 'the category_id 1, which is not there'),
        (dict(coco=dict(annotations=[dict(bbox=[1, 2])])), "an annotation has no 'id'"),
        (dict(coco=dict(annotations=[part(bbox=(1, 2, 3, True))])), 'not four numbers'),
    ],
)
def test_files_that_will_not_do(crops, options, message):
    with pytest.raises(UserError, match=message):
        len(crops(part(), steps=None, **options))


@pytest.mark.parametrize(
    'options',
    [
        dict(context=0.5),
        dict(context=float('nan')),
        dict(context='1.5'),
        dict(min_size=0),
        dict(min_size=True),
        dict(shape='star'),
        dict(data_prefix=dict(img='')),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(crops, options):
    with pytest.raises(ValueError, match=f'{[*options][0]}='):
        crops(part(), **{'shape': 'box', **options})


def test_classes_are_a_list(crops):
    with pytest.raises(ValueError, match="classes='car' must be a list"):
        crops(part(), shape='box', metainfo=dict(classes='car'))


def test_whole_scenes_are_refused(folder):
    steps = [TRANSFORMS.build(dict(type='mmpretrain.LoadImageFromFile'))]
    with pytest.raises(ValueError, match='begins with LoadImageFromFile.*LoadObjectCrop'):
        ObjectCrops('objects.json', data_root=str(folder), pipeline=steps)


def test_another_image_is_refused(crops, folder):
    Image.new('RGB', (COLS, COLS)).save(folder / 'scene.png')
    with pytest.raises(UserError, match=r'\(60, 60\) pixels, .* for \(40, 60\)'):
        crops(part(), shape='box')[0]


@pytest.mark.parametrize(
    'shape',
    [
        [5],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 1e9]],
        dict(),
        dict(counts='01'),
        dict(size=[ROWS, COLS], counts='!'),
        dict(size=[ROWS, COLS], counts=[]),
        dict(size=[ROWS, COLS], counts=[100, 100]),
        dict(size=[2, 2], counts=[2, 2]),
        'x',
    ],
    ids=str,
)
def test_damaged_masks_are_refused(crops, shape):
    with pytest.raises(UserError, match='annotation 7'):
        crops(part(segmentation=shape))


def test_masks_that_show_nothing_are_refused(crops):
    pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')
    elsewhere = [[40, 0, 60, 0, 60, 8, 40, 8]]
    with pytest.raises(UserError, match='scene.png shows nothing'):
        crops(part(segmentation=elsewhere), context=1)[0]


@pytest.mark.parametrize('shape', ['box', 'ellipse'])
def test_boxes_that_reach_beyond_the_scene(crops, shape):
    mask = crops(part(bbox=(-4, -2, 20, 16)), shape=shape, context=1)[0]['object_mask'].pixels
    assert mask[:14, :16].mean() > 255 * 0.75 and not mask[15:].any()


def test_shares_of_crops(crops):
    """Of a box in a square of twice its size a quarter is seen; half of it under half a mix."""
    steps = [
        dict(type='mmtlalign.Resize', scale=(8, 8)),
        dict(type='PackInputs', algorithm_keys=('object_mask',)),
    ]
    steps = [TRANSFORMS.build(dict(step, _scope_='mmpretrain')) for step in steps]
    boxes = part(bbox=(12, 12, 16, 16)), part(bbox=(12, 12, 16, 16))
    samples = pseudo_collate([*crops(*boxes, steps=steps, shape='box', context=2)])['data_samples']
    left = np.zeros((2, 2, 2), np.float32)
    left[:, :, 0] = 1
    left[1, 0] = 1
    token_share = torch.tensor(left)
    record = MixRecord(torch.tensor([1, 0]), token_share, token_share.mean((1, 2)))
    np.testing.assert_allclose(visible_share(record, samples), [0.5, 0.75])


def test_scenes_are_looked_at_before_a_training(crops, folder):
    annotations = part(3), part(1), part(1), part(1, bbox=(0, 0, 5, 5)), part(bbox=(99, 1, 20, 20))
    crops(*annotations, steps=None, shape='box')
    dataset = dict(type='mmtlalign.ObjectCrops', data_root=str(folder), ann_file='objects.json')
    dataset['shape'] = 'box'
    cfg = Config(dict(default_scope='mmpretrain', train_cfg={}, model={}))
    cfg.train_dataloader = dict(dataset=dataset)
    (found,) = check_data(cfg, 'train')
    assert found.counts == dict(car=1, tree=2)
    assert found.left_out == ['1 below 16 px, 1 outside their image']
    Image.new('RGB', (COLS, COLS)).save(folder / 'scene.png')
    with pytest.raises(UserError, match='scene.png. has 60x60 px, .* says 60x40'):
        check_data(cfg, 'train')
    (folder / 'scene.png').unlink()
    with pytest.raises(UserError, match='1 of 1 images .*scene.png.*data_prefix'):
        check_data(cfg, 'train')


def test_classes_in_another_order_are_refused_before_a_training(folder):
    loaders = {}
    for split, names in dict(train=['car', 'tree'], val=['tree', 'car']).items():
        categories = [dict(id=i, name=name) for i, name in enumerate(names, 1)]
        scene = dict(id=1, file_name='scene.png', height=ROWS, width=COLS)
        content = dict(images=[scene], annotations=[part()], categories=categories)
        (folder / f'{split}.json').write_text(json.dumps(content))
        crops = dict(type='mmtlalign.ObjectCrops', data_root=str(folder), ann_file=f'{split}.json')
        crops['shape'] = 'box'
        loaders[f'{split}_dataloader'] = dict(dataset=crops)
    cfg = Config(dict(default_scope='mmpretrain', train_cfg={}, val_cfg={}, model={}, **loaders))
    with pytest.raises(UserError, match="class 0 is 'tree' in val_.* and 'car' in train_"):
        check_data(cfg, 'train', 'val')
    cfg.val_dataloader.dataset.classes = ['car', 'tree']
    check_data(cfg, 'train', 'val')


@pytest.mark.parametrize('kind', ['mmtlalign.LoadObjectCrop', LoadObjectCrop])
def test_exif_is_applied_if_wanted(kind):
    cfg = Config(dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type=kind)]))))
    use_own_loaders(cfg, apply_exif=True)
    assert cfg.train_dataloader.dataset.pipeline[0].apply_tag
