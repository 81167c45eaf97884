"""Annotation files in COCO's format: names, and faults that they have in the field."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmtlalign.commands.checks import check_data, report
from mmtlalign.commands.checks.coco import _count_pixels
from mmtlalign.errors import UserError

from ...conftest import needs_operators

needs_operators()
mask = pytest.importorskip('pycocotools.mask', reason='mmdet is not installed')

SIZE = 120, 90
CLASSES = ('box', 'disc')
WHERE = 'train_dataloader.dataset'


def make(root, split, count=4, exif=None, ids=(1, 2), change=None):
    """Images of a rectangle of each class, and their file."""
    rng = np.random.default_rng(len(split))
    (root / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    images, annotations = [], []
    for i in range(count):
        for category in ids:
            w, h = rng.integers(20, 40, 2).tolist()
            x, y = (int(rng.integers(0, edge - length)) for edge, length in zip(SIZE, (w, h)))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i + 1,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )
        tags = Image.Exif()
        if exif:
            tags[0x0112] = exif
        Image.new('RGB', SIZE).save(root / split / f'{i}.jpg', exif=tags)
        images.append(dict(id=i + 1, file_name=f'{i}.jpg', width=SIZE[0], height=SIZE[1]))
    coco = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=key, name=name) for key, name in zip(ids, CLASSES)],
    )
    coco = changed if change and (changed := change(coco)) is not None else coco
    text = coco if isinstance(coco, str) else json.dumps(coco)
    (root / f'annotations/{split}.json').write_text(text)


def config(root, with_masks=False, classes=CLASSES, roi_head=None):
    def loader(split):
        return dict(
            dataset=dict(
                type='CocoDataset',
                data_root=str(root),
                ann_file=f'annotations/{split}.json',
                data_prefix=dict(img=split),
                test_mode=split != 'train',
                filter_cfg=dict(filter_empty_gt=True, min_size=32),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations', with_bbox=True, with_mask=with_masks),
                ],
                **(dict(metainfo=dict(classes=classes)) if classes is not None else {}),
            )
        )

    if roi_head is None:
        roi_head = dict(bbox_head=dict(num_classes=2))
        if with_masks:
            roi_head['mask_head'] = dict(num_classes=2)
    metric = dict(
        type='CocoMetric',
        metric=['bbox'] + ['segm'] * with_masks,
        ann_file=str(root / 'annotations/val.json'),
    )
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(roi_head=roi_head),
            train_dataloader=loader('train'),
            train_cfg=dict(),
            val_dataloader=loader('val'),
            val_cfg=dict(),
            val_evaluator=metric,
            test_dataloader=loader('val'),
            test_cfg=dict(),
        )
    )


@pytest.fixture
def look(tmp_path):
    """Both splits with a change; gives findings and lines."""

    def run(change=None, phases=('train', 'val'), with_masks=False, options={}, **made):
        for split in ('train', 'val'):
            if not (tmp_path / split).exists():
                make(tmp_path, split, change=change, **made)
        findings = check_data(config(tmp_path, with_masks, **options), *phases)
        return findings, list(report(findings))

    return run


def annotations(change):
    """A change of every annotation."""

    def run(coco):
        for i, annotation in enumerate(coco['annotations']):
            change(i, annotation)

    return run


def setting(key, value):
    return annotations(lambda i, row: row.update({key: value}))


def first(key, value, of='annotations'):
    return lambda coco: coco[of][0].update({key: value})


def second(key, value):
    return lambda coco: coco['categories'][1].update({key: value})


def without(key):
    return annotations(lambda i, row: row.pop(key))


def test_sound_files(look):
    (train, val), lines = look(with_masks=True)
    assert train.counts == val.counts == dict(box=4, disc=4)
    assert lines == [
        'images: train 4; val 4',
        'per class: train 8 boxes in 2 classes (box 4, disc 4); '
        'val 8 boxes in 2 classes (box 4, disc 4)',
        'left out: train nothing; val nothing',
    ]


@pytest.mark.parametrize(
    'classes',
    [('disc', 'box'), ('Box', 'disc'), ('box',), CLASSES + ('more',), ()],
    ids=['order', 'spelling', 'fewer', 'more', 'none'],
)
@pytest.mark.parametrize('phase', ['train', 'test'])
def test_other_names_are_refused_with_both_lists(look, classes, phase):
    with pytest.raises(UserError) as error:
        look(phases=[phase], options=dict(classes=classes, roi_head={}), count=1)
    message = str(error.value)
    assert "['box', 'disc']" in message  # the file's
    assert str(list(classes)) in message
    assert '.json' in message and 'metainfo.classes' in message
    assert '\n' not in message


def test_names_may_come_from_the_class_or_a_file(look, tmp_path):
    with pytest.raises(UserError, match="expects .'person', 'bicycle', "):
        look(phases=['train'], options=dict(classes=None, roi_head={}))
    (tmp_path / 'names.txt').write_text('\n'.join(CLASSES))
    look(phases=['train'], options=dict(classes=str(tmp_path / 'names.txt')))


def test_test_files_need_no_annotations(look):
    def change(coco):
        del coco['annotations']

    look(change, phases=['test'])
    with pytest.raises(UserError, match='has no annotations'):
        look(phases=['val'])


@pytest.mark.parametrize(
    'roi_head, place',
    [
        (dict(bbox_head=dict(num_classes=80)), r'bbox_head\.num_classes is 80'),
        (
            dict(bbox_head=[dict(num_classes=2), dict(num_classes=3)]),
            r'bbox_head\.1\.num_classes is 3',
        ),
        (
            dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=4)),
            r'mask_head\.num_classes is 4',
        ),
        (dict(mask_head=dict(type='FCNMaskHead'), semantic_head=dict(num_classes=183)), None),
    ],
)
def test_heads_have_as_many_classes(look, roi_head, place):
    if place is None:
        look(options=dict(roi_head=roi_head), phases=['val'])
        return
    with pytest.raises(
        UserError, match=rf'model\.roi_head\.{place}.*2 classes \(box, disc\).*num_classes=2'
    ):
        look(options=dict(roi_head=roi_head))


def test_a_missing_file_is_named_for_metrics_too(tmp_path):
    cfg = Config(
        dict(
            default_scope='mmdet',
            val_cfg=dict(),
            data_hint='unpack it',
            val_dataloader=dict(dataset=dict(type='CocoDataset')),
            val_evaluator=[dict(type='CocoMetric', ann_file='gone.json')],
        )
    )
    with pytest.raises(UserError, match="'gone.json' .val_evaluator.ann_file.*unpack it"):
        check_data(cfg, 'val')
    cfg.val_dataloader.dataset.ann_file = 'lost.json'
    with pytest.raises(UserError, match="'lost.json' .val_dataloader"):
        check_data(cfg, 'val')


@pytest.mark.slow
@pytest.mark.parametrize(
    'change, complaint',
    [
        (
            annotations(lambda i, row: row.update(category_id=row['category_id'] - 1)),
            'annotation 1 has the category_id 0, which is none of the ids 1, 2 '
            r'\(4 of 8 annotations\)',
        ),
        (
            annotations(lambda i, row: row.update(id=i)),
            r'annotation 0 has an id that is not positive.*\(1 of 8 annotations\)',
        ),
        (
            annotations(lambda i, row: row.update(id=i // 2 + 1)),
            r'annotation 1 has an id that another one has \(4 of 8 annotations\)',
        ),
        (first('id', '1'), "annotation '1' has an id that is no whole number"),
        (first('id', True), 'annotation True has an id that is no whole number'),
        (without('id'), "an annotation has no 'id'"),
        *(
            (without(key), f"annotation 1 has no '{key}'")
            for key in ('area', 'bbox', 'image_id', 'category_id', 'iscrowd')
        ),
        (
            annotations(lambda i, row: row.update(image_id=str(row['image_id']))),
            "annotation 1 has the image_id '1', a str and no whole number",
        ),
        (
            annotations(lambda i, row: row.update(category_id=str(row['category_id']))),
            "annotation 1 has the category_id '1', a str",
        ),
        (lambda coco: '', 'is empty'),
        (lambda coco: '{"images": [', 'is no JSON'),
        (lambda coco: [], 'holds a list'),
        (lambda coco: {}, 'has no images'),
        *(
            (lambda coco, key=key: dict(coco, **{key: []}), f'has no {key}')
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
        (
            first('segmentation', dict(size=[90, 120], counts=[5, 6])),
            'run lengths for 11 pixels in place of 90x120',
        ),
        (first('segmentation', dict(size=[90, 120], counts=3)), 'no run lengths'),
        *(
            (first('segmentation', dict(size=[90, 120], counts=text)), f'for {pixels} pixels in')
            for text, pixels in (('', 'no'), ('zzz', 'no'), ('oooo1', 2**21 - 1))
        ),
        (setting('bbox', [200, 10, 5, 5]), 'outside its image.*as all are'),
        (setting('area', 0), 'has no area, and is left out, as all are'),
        (lambda coco: dict(coco, annotations=[7]), 'an annotation is 7 and'),
        (lambda coco: dict(coco, images=dict(a=1)), 'has no images'),
        (first('height', None, 'images'), 'the height None'),
        (
            lambda coco: dict(coco, images=[dict(id=1, file_name='0.jpg', width=9)]),
            "image 1 has no 'height'",
        ),
        (first('width', '120', 'images'), "the width '120'"),
        (first('width', 0, 'images'), 'the width 0'),
        (first('file_name', None, 'images'), 'file_name None'),
        (first('id', 2, 'images'), 'image 2 is there twice'),
        (
            lambda coco: coco['images'][0].update(width=90, height=120),
            'has 120x90 px, but .* says 90x120',
        ),
        (second('id', 1), 'there twice'),
        (second('name', 'box'), 'there twice'),
        (second('name', 3), 'the name 3'),
        (
            lambda coco: coco['images'].append(
                dict(id=99, file_name='gone.jpg', width=9, height=9)
            ),
            "1 of 5 images .* are not there, the first is '.*/train/gone.jpg'",
        ),
        (first('file_name', 'train\\0.jpg', 'images'), 'its name has backslashes'),
        (lambda coco: dict(coco, more=json.loads('[' * 200 + ']' * 200)), 'more than 100 deep'),
    ],
)
def test_faults_are_refused_in_one_line(look, change, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        look(change)
    message = str(error.value)
    assert '/annotations/' in message and '\n' not in message


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
def test_masks_are_asked_for_where_they_are_used(look, tmp_path, change, complaint):
    with pytest.raises(UserError, match=complaint):
        look(change, with_masks=True)
    check_data(config(tmp_path), 'train')  # without a mask head


def test_a_pipeline_without_masks_for_a_mask_head(tmp_path):
    make(tmp_path, 'train')
    cfg = config(tmp_path, with_masks=True)
    cfg.train_dataloader.dataset.pipeline[1].with_mask = False
    with pytest.raises(UserError, match='loads no masks.*with_mask=True'):
        check_data(cfg, 'train')


def test_the_folder_of_images_is_named(tmp_path):
    make(tmp_path, 'train')
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.data_prefix = dict(img_path='train')
    with pytest.raises(UserError, match="data_prefix has no 'img'"):
        check_data(cfg, 'train')


def test_training_needs_no_iscrowd(look):
    look(without('iscrowd'), ['train'])


def test_ids_need_not_be_contiguous_and_crowds_are_sound(look):
    def crowd(i, row):
        if i % 2:
            row.update(iscrowd=1, segmentation=dict(size=[90, 120], counts=[0, 10800]))

    (train, _), _ = look(annotations(crowd), ids=(7, 90), with_masks=True)
    assert train.counts == dict(box=4, disc=4)


def host_boxes(cfg, split):
    from mmdet.datasets import CocoDataset

    options = dict(cfg[f'{split}_dataloader'].dataset, pipeline=[])
    del options['type']
    dataset = CocoDataset(**options)
    boxes = [len(dataset.get_data_info(i)['instances']) for i in range(len(dataset))]
    return len(boxes), sum(boxes)


def test_counts_are_those_of_the_hosts_data_set(tmp_path):
    """On random boxes, many of which its filter drops."""
    rng = np.random.default_rng(0)

    def change(coco):
        rows = []
        for i in range(200):
            box = [
                rng.integers(-60, 150).item(),
                rng.uniform(-60, 120),
                rng.choice([0, 0.5, 1, 30, 90]).item(),
                rng.choice([-3, 0.9, 1.0, 40, 200]).item(),
            ]
            rows.append(
                dict(
                    id=i + 1,
                    image_id=rng.integers(1, 20).item(),
                    category_id=rng.integers(1, 3).item(),
                    bbox=box,
                    area=rng.choice([-1, 0, 0.5, 9]).item(),
                    iscrowd=0,
                    ignore=rng.choice([0, 0, 1]).item(),
                    segmentation=[],
                )
            )
        coco['annotations'] = rows
        for image in coco['images'][20:]:
            image.update(width=31)

    for split in ('train', 'val'):
        make(tmp_path, split, count=25, change=change)
        for i in range(20, 25):
            Image.new('RGB', (31, 90)).save(tmp_path / split / f'{i}.jpg')
    cfg = config(tmp_path)
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


def test_what_may_be_a_mistake_is_a_warning(look):
    def change(coco):
        for row in coco['annotations'][:5]:
            row['bbox'] = [60, 10, 100, 50]  # corners
        for row in coco['annotations'][5:]:
            row['bbox'] = [20.5, 10, 100, 50]  # within a pixel
        coco['images'][1]['file_name'] = '0.jpg'

    _, lines = look(change)
    assert any(f'5 of 8 boxes of {WHERE} reach' in line for line in lines)
    assert any(f'1 of 4 images of {WHERE} are the file' in line for line in lines)


def test_a_class_in_no_annotation_is_named(look):
    def change(coco):
        del coco['annotations'][1::2]

    findings, lines = look(change)
    assert findings[0].counts == dict(box=4, disc=0)
    assert f'warning: 1 of 2 classes of {WHERE} are in no annotation: disc' in lines


def test_keys_may_come_in_any_order(look):
    (train, _), _ = look(
        lambda coco: {key: coco[key] for key in ('annotations', 'categories', 'images')}
    )
    assert train.counts == dict(box=4, disc=4)


def test_files_beside_the_named_ones_are_counted(tmp_path):
    make(tmp_path, 'train')
    for name in ('a.jpg', 'b.webp', '._0.jpg', 'notes.txt'):
        Image.new('RGB', (2, 2)).save(tmp_path / 'train' / name, 'PNG')
    (found,) = check_data(config(tmp_path), 'train')
    assert found.left_out == [f'2 of 6 images in {tmp_path}/train (1 .jpg, 1 .webp)']


def test_scores_are_of_the_file_that_the_images_are_of(tmp_path):
    for split in ('train', 'val'):
        make(tmp_path, split)
    cfg = config(tmp_path)
    cfg.val_evaluator.ann_file = str(tmp_path / 'annotations/train.json')
    with pytest.raises(
        UserError, match='val_evaluator.ann_file is .*train.json.*images are those of .*val.json'
    ):
        check_data(cfg, 'val')
    link = tmp_path / 'link.json'
    link.symlink_to(tmp_path / 'annotations/val.json')
    cfg.val_evaluator.ann_file = str(link)
    check_data(cfg, 'val')


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_an_unreadable_image_is_named(tmp_path, content):
    make(tmp_path, 'train')
    (tmp_path / 'train/2.jpg').write_bytes(content)
    with pytest.raises(UserError, match="image '.*/train/2.jpg' cannot be"):
        check_data(config(tmp_path), 'train')


def test_an_image_of_another_size_is_named(tmp_path):
    make(tmp_path, 'train')
    Image.new('RGB', (60, 45)).save(tmp_path / 'train/2.jpg')
    with pytest.raises(UserError, match='2.jpg. has 60x45 px, but .* 120x90'):
        check_data(config(tmp_path), 'train')


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_orientations_are_counted_where_sizes_cannot_tell(tmp_path, orientation):
    make(tmp_path, 'train', exif=orientation)
    (found,) = check_data(config(tmp_path), 'train')
    assert len(found.warnings) == (orientation == 3)  # 6 is as stored, by its size
    for warning in found.warnings:
        assert warning.startswith(f'4 of 4 images of {WHERE}') and '--apply-exif' in warning


def test_a_file_that_states_the_size_of_turned_images(tmp_path):
    def change(coco):
        for image in coco['images']:
            image.update(width=SIZE[1], height=SIZE[0])

    make(tmp_path, 'train', exif=6, change=change)
    (found,) = check_data(config(tmp_path), 'train')
    assert not found.warnings
