"""Annotation files in COCO's format: names, and faults that they have in the field."""

import re

import numpy as np
import pytest
from PIL import Image

from mmtlalign.commands.checks import check_data
from mmtlalign.datasets.coco_file import _count_pixels

from ...conftest import needs_operators
from .coco_files import CLASSES, SIZE, make
from .conftest import config, refused

needs_operators()
mask = pytest.importorskip('pycocotools.mask', reason='mmdet is not installed')

WHERE = 'train_dataloader.dataset'


def config_of(root, with_masks=False, classes=CLASSES, roi_head=None):
    """The config of both splits; the second is also tested on."""

    def dataset(split):
        return dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=split),
            metainfo=dict(classes=classes),
            test_mode=split != 'train',
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=with_masks),
            ],
        )

    if roi_head is None:
        heads = ['bbox_head'] + ['mask_head'] * with_masks
        roi_head = {head: dict(num_classes=2) for head in heads}
    val = dataset('val')
    cfg = config('mmdet', dict(roi_head=roi_head), train=dataset('train'), val=val, test=val)
    cfg.val_evaluator = dict(
        type='CocoMetric',
        metric=['bbox'] + ['segm'] * with_masks,
        ann_file=str(root / 'annotations/val.json'),
    )
    return cfg


@pytest.fixture
def write(tmp_path):
    """The config of splits of which the annotations are changed."""

    def run(change=None, splits=('train', 'val'), with_masks=False, options={}, **made):
        for split in splits:
            make(tmp_path, split, change=change, **made)
        return config_of(tmp_path, with_masks, **options)

    return run


def each(change):
    """A change of every annotation, by its number."""

    def run(coco):
        for i, annotation in enumerate(coco['annotations']):
            change(i, annotation)

    return run


def setting(key, value):
    return each(lambda i, row: row.update({key: value}))


def first(key, value, of='annotations'):
    return lambda coco: coco[of][0].update({key: value})


def without(key):
    return each(lambda i, row: row.pop(key))


def replaced(**lists):
    return lambda coco: dict(coco, **lists)


def test_sound_files_with_keys_in_any_order(write):
    cfg = write(
        lambda coco: {key: coco[key] for key in ('annotations', 'categories', 'images')},
        with_masks=True,
    )
    train, val = check_data(cfg, 'train', 'val')
    assert train.counts == val.counts == dict(box=4, disc=4)


@pytest.mark.parametrize(
    'classes, phase', [(('disc', 'box'), 'train'), (('Box', 'disc'), 'test'), ((), 'train')]
)
def test_other_names_are_refused_with_both_lists(write, classes, phase):
    message = refused(write(options=dict(classes=classes, roi_head={}), count=1), phase)
    assert "['box', 'disc']" in message  # the file's
    assert str(list(classes)) in message
    assert '.json' in message and 'metainfo.classes' in message


def test_names_may_come_from_the_class_or_a_file(write, tmp_path):
    cfg = write(options=dict(classes=None, roi_head={}))
    assert "expects ['person', 'bicycle', " in refused(cfg)
    (tmp_path / 'names.txt').write_text('\n'.join(CLASSES))
    check_data(config_of(tmp_path, classes=str(tmp_path / 'names.txt')), 'train')


def test_test_files_need_no_annotations(write):
    cfg = write(lambda coco: coco.pop('annotations') and None)
    check_data(cfg, 'test')
    assert 'has no annotations' in refused(cfg, 'val')


def test_heads_have_as_many_classes(write):
    cfg, two = write(), dict(num_classes=2)
    for heads, place in (
        (dict(bbox_head=dict(num_classes=80)), 'bbox_head.num_classes is 80'),
        (dict(bbox_head=[two, dict(num_classes=3)]), 'bbox_head.1.num_classes is 3'),
        (dict(bbox_head=two, mask_head=dict(num_classes=4)), 'mask_head.num_classes is 4'),
    ):
        cfg.model.roi_head = heads
        said = refused(cfg)
        assert said.startswith(f'model.roi_head.{place}')
        assert '2 classes (box, disc)' in said and 'num_classes=2' in said


@pytest.mark.slow
@pytest.mark.parametrize(
    'change, complaint',
    [
        (
            each(lambda i, row: row.update(category_id=row['category_id'] - 1)),
            'annotation 1 has the category_id 0, which is none of the ids 1, 2 '
            r'\(4 of 8 annotations\)',
        ),
        (
            each(lambda i, row: row.update(id=i)),
            r'annotation 0 has an id that is not positive.*\(1 of 8 annotations\)',
        ),
        (
            each(lambda i, row: row.update(id=i // 2 + 1)),
            r'annotation 1 has an id that another one has \(4 of 8 annotations\)',
        ),
        (first('id', '1'), "annotation '1' has an id that is no whole number"),
        (first('id', True), 'annotation True has an id that is no whole number'),
        (without('id'), "an annotation has no 'id'"),
        *(
            (without(key), f"annotation 1 has no '{key}'")
            for key in ('area', 'bbox', 'image_id', 'category_id', 'iscrowd')
        ),
        (first('image_id', '1'), "annotation 1 has the image_id '1', a str and no whole number"),
        (first('category_id', '1'), "annotation 1 has the category_id '1', a str"),
        (lambda coco: '{"images": [', 'is no JSON'),
        (lambda coco: {}, 'has no images'),
        *(
            (replaced(**{key: []}), f'has no {key}')
            for key in ('images', 'annotations', 'categories')
        ),
        (first('image_id', 77), 'annotation 1 has the image_id 77, which is none'),
        (first('category_id', None), 'category_id None, a NoneType'),
        (first('bbox', [1, 2, 3]), r'annotation 1 has the bbox \[1, 2, 3\]'),
        (first('bbox', [1, 2, 3, '4']), 'which is not four numbers'),
        (first('bbox', None), 'has the bbox None'),
        (first('bbox', [1, 2, 3, float('nan')]), 'NaN and Infinity'),
        (first('area', '9'), "annotation 1 has the area '9'"),
        (first('iscrowd', 'no'), "annotation 1 has the iscrowd 'no'"),
        (first('segmentation', [['a']]), 'a polygon with what is no number'),
        (first('segmentation', 'text'), "segmentation 'text' that is no list"),
        *(
            (first('segmentation', dict(size=[90, 120], counts=counts)), complaint)
            for counts, complaint in (
                ([5, 6], 'run lengths for 11 pixels in place of 90x120'),
                (3, 'no run lengths'),
                ('', 'for no pixels in'),
                ('zzz', 'for no pixels in'),
                ('oooo1', f'for {2**21 - 1} pixels in'),
            )
        ),
        (setting('bbox', [200, 10, 5, 5]), 'outside its image.*as all are'),
        (setting('area', 0), 'has no area, and is left out, as all are'),
        (replaced(annotations=[7]), 'an annotation is 7 and'),
        (replaced(images=dict(a=1)), 'has no images'),
        (replaced(images=[dict(id=1, file_name='0.jpg', width=9)]), "image 1 has no 'height'"),
        (first('height', None, 'images'), 'the height None'),
        (first('width', '120', 'images'), "the width '120'"),
        (first('width', 0, 'images'), 'the width 0'),
        (first('width', 90, 'images'), 'has 120x90 px, but .* says 90x90'),
        (first('file_name', None, 'images'), 'file_name None'),
        (first('file_name', 'val\\0.jpg', 'images'), 'its name has backslashes'),
        (
            first('file_name', 'gone.jpg', 'images'),
            "1 of 4 images .* are not there, the first is '.*/val/gone.jpg'",
        ),
        (first('id', 2, 'images'), 'image 2 is there twice'),
        (first('id', 2, 'categories'), 'there twice'),
        (first('name', 'disc', 'categories'), 'there twice'),
        (first('name', 3, 'categories'), 'the name 3'),
    ],
)
def test_faults_are_refused_in_one_line(write, change, complaint):
    message = refused(write(change, ['val']), 'val')
    assert re.search(complaint, message) and '/annotations/' in message


@pytest.mark.parametrize(
    'change, complaint',
    [
        (without('segmentation'), r"annotation 1 has no 'segmentation'.*8 of 8"),
        (first('segmentation', []), r"has no 'segmentation'.*\(1 of 8"),
        (
            first('segmentation', dict(size=[120, 90], counts=[0, 10800])),
            'annotation 1 has a mask of 120x90 px, which is not the size',
        ),
    ],
)
def test_masks_are_asked_for_where_they_are_used(write, tmp_path, change, complaint):
    assert re.search(complaint, refused(write(change, ['train'], with_masks=True)))
    check_data(config_of(tmp_path), 'train')  # without a mask head


@pytest.mark.parametrize(
    'phase, options, complaint',
    [
        ('train', {'dataloader.dataset.pipeline.1.with_mask': False}, 'no masks.*with_mask=True'),
        (
            'train',
            {'dataloader.dataset.data_prefix': dict(_delete_=True)},
            "data_prefix has no 'img'",
        ),
        ('val', {'dataloader.dataset.ann_file': 'lost.json'}, "lost.json' .val_dataloader"),
        (
            'val',
            {'evaluator.ann_file': 'gone.json'},
            "'gone.json' .val_evaluator.ann_file.*unpack it",
        ),
        (
            'val',
            {'evaluator.ann_file': 'annotations/train.json'},
            'val_evaluator.ann_file is .*train.json.*images are those of .*val.json',
        ),
    ],
)
def test_configs_are_held_against_the_file(write, tmp_path, monkeypatch, phase, options, complaint):
    monkeypatch.chdir(tmp_path)
    cfg = write(with_masks=True)
    cfg.merge_from_dict({f'{phase}_{key}': value for key, value in options.items()})
    cfg.data_hint = 'unpack it'
    assert re.search(complaint, refused(cfg, phase))


def test_images_are_held_against_the_file(write, tmp_path):
    cfg, path = write(), tmp_path / 'train/2.jpg'
    for content in (b'', b'no image'):
        path.write_bytes(content)
        assert f"image '{path}' cannot be" in refused(cfg)
    Image.new('RGB', (60, 45)).save(path)
    assert re.search('2.jpg. has 60x45 px, but .* 120x90', refused(cfg))


def test_what_is_sound(write, tmp_path):
    """Ids with gaps, crowds, heads without a number, one file by two paths."""

    def crowd(i, row):
        if i % 2:
            row.update(iscrowd=1, segmentation=dict(size=[90, 120], counts=[0, 10800]))

    mask_head, semantic_head = dict(type='FCNMaskHead'), dict(num_classes=183)
    roi_head = dict(mask_head=mask_head, semantic_head=semantic_head)
    cfg = write(each(crowd), ids=(7, 90), with_masks=True, options=dict(roi_head=roi_head))
    cfg.val_evaluator.ann_file = str(tmp_path / 'link.json')
    (tmp_path / 'link.json').symlink_to('annotations/val.json')
    for found in check_data(cfg, 'train', 'val'):
        assert found.counts == dict(box=4, disc=4)


def host_boxes(cfg, split):
    from mmdet.datasets import CocoDataset

    options = dict(cfg[f'{split}_dataloader'].dataset, pipeline=[])
    del options['type']
    dataset = CocoDataset(**options)
    boxes = [len(dataset.get_data_info(i)['instances']) for i in range(len(dataset))]
    return len(boxes), sum(boxes)


def test_counts_are_those_of_the_hosts_data_set(write, tmp_path):
    """On random boxes, many of which its filter drops."""
    rng = np.random.default_rng(0)

    def row(i):
        box = [
            rng.integers(-60, 150).item(),
            rng.uniform(-60, 120),
            rng.choice([0, 0.5, 1, 30, 90]).item(),
            rng.choice([-3, 0.9, 1.0, 40, 200]).item(),
        ]
        return dict(
            id=i + 1,
            image_id=rng.integers(1, 20).item(),
            category_id=rng.integers(1, 3).item(),
            bbox=box,
            area=rng.choice([-1, 0, 0.5, 9]).item(),
            iscrowd=0,
            ignore=rng.choice([0, 0, 1]).item(),
        )

    def change(coco):
        for image in coco['images'][20:]:
            image.update(width=31)
        return dict(coco, annotations=list(map(row, range(200))))

    cfg = write(change, count=25)
    for split in ('train', 'val'):
        for i in range(20, 25):
            Image.new('RGB', (31, 90)).save(tmp_path / split / f'{i}.jpg')
    for found in check_data(cfg, 'train', 'val'):
        images, boxes = host_boxes(cfg, found.name)
        assert (found.images, sum(found.counts.values())) == (images, boxes)
        assert 5 < boxes < 100 and found.left_out
    assert found.name == 'val' and images == 25
    assert any('outside the image' in line for line in found.left_out)


def test_compressed_run_lengths_are_counted_as_they_are_decoded():
    rng = np.random.default_rng(0)
    for density in (0, 0.01, 0.5, 1):
        height, width = rng.integers(1, 200, 2).tolist()
        pixels = np.asfortranarray(rng.random((height, width)) < density, np.uint8)
        text = mask.encode(pixels)['counts'].decode()
        assert _count_pixels(text) == height * width


def test_what_may_be_a_mistake_is_a_warning(write):
    def change(coco):
        for row in coco['annotations'][:5]:
            row['bbox'] = [60, 10, 100, 50]  # corners
        for row in coco['annotations'][5:]:
            row['bbox'] = [20.5, 10, 100, 50]  # within a pixel
        coco['images'][1]['file_name'] = '0.jpg'

    (found,) = check_data(write(change), 'train')
    beyond, shared = found.warnings
    assert beyond.startswith(f'5 of 8 boxes of {WHERE} reach')
    assert shared.startswith(f'1 of 4 images of {WHERE} are the file')


def test_what_training_does_without(write, tmp_path):
    """Keys that scores are computed with, annotations of a class, files beside the named ones."""

    def change(coco):
        without('iscrowd')(coco)
        del coco['annotations'][1::2]

    cfg = write(change)
    for name in ('a.jpg', 'b.webp', '._0.jpg', 'notes.txt'):
        Image.new('RGB', (2, 2)).save(tmp_path / 'train' / name, 'PNG')
    (found,) = check_data(cfg, 'train')
    assert found.counts == dict(box=4, disc=0)
    assert found.left_out == [f'2 of 6 images in {tmp_path}/train (1 .jpg, 1 .webp)']


@pytest.mark.parametrize(
    'orientation, size, unclear',
    [(1, SIZE, False), (3, SIZE, True), (6, SIZE, False), (6, SIZE[::-1], False)],
)
def test_orientations_are_counted_where_sizes_cannot_tell(write, orientation, size, unclear):
    def state(coco):
        for image in coco['images']:
            image.update(zip(('width', 'height'), size))

    (found,) = check_data(write(state, exif=orientation), 'train')
    assert len(found.warnings) == unclear
    for warning in found.warnings:
        assert warning.startswith(f'4 of 4 images of {WHERE}') and '--apply-exif' in warning
