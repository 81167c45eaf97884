"""Faults that annotation files have in the field, one file each."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools import mask

from mmtlalign.commands.checks import check_data, report
from mmtlalign.commands.checks.coco import _count_pixels
from mmtlalign.errors import UserError

from ...conftest import needs_operators

needs_operators()

SIZE = 120, 90
CLASSES = ('box', 'disc')


def make(root, split, count=4, exif=None, ids=(1, 2), change=None):
    """Images of two rectangles each, and their file."""
    rng = np.random.default_rng(len(split))
    (root / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    images, annotations = [], []
    for i in range(count):
        pixels = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
        for category in ids:
            w, h = rng.integers(20, 40, 2).tolist()
            x, y = (int(rng.integers(0, edge - length)) for edge, length in zip(SIZE, (w, h)))
            pixels[y : y + h, x : x + w] = 200
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
        options = {}
        if exif:
            tags = Image.Exif()
            tags[0x0112] = exif
            options = dict(exif=tags.tobytes())
        Image.fromarray(pixels).save(root / split / f'{i}.jpg', **options)
        images.append(dict(id=i + 1, file_name=f'{i}.jpg', width=SIZE[0], height=SIZE[1]))
    coco = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=key, name=name) for key, name in zip(ids, CLASSES)],
    )
    coco = (change and change(coco)) or coco
    path = root / f'annotations/{split}.json'
    path.write_text(json.dumps(coco))
    return str(path)


def config(root, with_masks=False):
    def loader(split):
        return dict(
            dataset=dict(
                type='CocoDataset',
                data_root=str(root),
                ann_file=f'annotations/{split}.json',
                data_prefix=dict(img=split),
                metainfo=dict(classes=CLASSES),
                test_mode=split != 'train',
                filter_cfg=dict(filter_empty_gt=True, min_size=32),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations', with_bbox=True, with_mask=with_masks),
                ],
            )
        )

    roi_head = dict(bbox_head=dict(num_classes=2))
    if with_masks:
        roi_head['mask_head'] = dict(num_classes=2)
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(roi_head=roi_head),
            train_dataloader=loader('train'),
            train_cfg=dict(),
            val_dataloader=loader('val'),
            val_cfg=dict(),
            val_evaluator=dict(
                type='CocoMetric',
                metric=['bbox'] + ['segm'] * with_masks,
                ann_file=str(root / 'annotations/val.json'),
            ),
        )
    )


@pytest.fixture
def look(tmp_path):
    """Both splits with a change; gives findings and lines."""

    def run(change=None, with_masks=False, phases=('train', 'val'), **options):
        for split in ('train', 'val'):
            make(tmp_path, split, change=change, **options)
        findings = check_data(config(tmp_path, with_masks), *phases)
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


def first(key, value):
    return lambda coco: coco['annotations'][0].update({key: value})


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
        (first('id', -1), 'annotation -1 has an id that is not positive'),
        (
            annotations(lambda i, row: row.update(id=i // 2 + 1)),
            r'annotation 1 has an id that another one has \(4 of 8 annotations\)',
        ),
        (first('id', '1'), "annotation '1' has an id that is no whole number"),
        (first('id', 1.5), 'annotation 1.5 has an id that is no whole number'),
        (first('id', True), 'annotation True has an id that is no whole'),
        (without('id'), "an annotation has no 'id'"),
        (without('area'), "annotation 1 has no 'area'"),
        (without('bbox'), "annotation 1 has no 'bbox'"),
        (without('image_id'), "annotation 1 has no 'image_id'"),
        (without('category_id'), "annotation 1 has no 'category_id'"),
        (without('iscrowd'), "annotation 1 has no 'iscrowd'"),
        (
            annotations(lambda i, row: row.update(image_id=str(row['image_id']))),
            "annotation 1 has the image_id '1', a str and no whole number",
        ),
        (
            annotations(lambda i, row: row.update(category_id=str(row['category_id']))),
            "annotation 1 has the category_id '1', a str",
        ),
        (first('image_id', 77), 'annotation 1 has the image_id 77, which is none'),
        (first('category_id', None), 'category_id None, a NoneType'),
        (first('bbox', [1, 2, 3]), r'annotation 1 has the bbox \[1, 2, 3\]'),
        (first('bbox', [1, 2, 3, '4']), 'which is not four numbers'),
        (first('bbox', dict(x=1)), 'which is not four numbers'),
        (first('bbox', None), 'has the bbox None'),
        (first('bbox', [1, 2, 3, float('nan')]), 'NaN and Infinity'),
        (first('bbox', [1, 2, float('inf'), 4]), 'NaN and Infinity'),
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
            for text, pixels in (('', 'no'), ('zzz', 'no'), ('!', 'no'), ('oooo1', 2**21 - 1))
        ),
        (setting('bbox', [200, 10, 5, 5]), 'outside its image.*as all are'),
        (setting('area', 0), 'has no area, and is left out, as all are'),
        (lambda coco: dict(coco, annotations=[7]), 'an annotation is 7 and'),
        (lambda coco: dict(coco, images=dict(a=1)), 'has no images'),
        (lambda coco: coco['images'][0].update(height=None), 'the height None'),
        (
            lambda coco: dict(coco, images=[dict(id=1, file_name='0.jpg', width=9)]),
            "image 1 has no 'height'",
        ),
        (lambda coco: coco['images'][0].update(width='120'), "the width '120'"),
        (lambda coco: coco['images'][0].update(width=0), 'the width 0'),
        (lambda coco: coco['images'][0].update(file_name=None), 'file_name None'),
        (lambda coco: coco['images'][0].update(id=2), 'image 2 is there twice'),
        (
            lambda coco: coco['images'][0].update(width=90, height=120),
            'has 120x90 px, but .* says 90x120',
        ),
        (lambda coco: coco['categories'][1].update(id=1), 'there twice'),
        (lambda coco: coco['categories'][1].update(name='box'), 'there twice'),
        (lambda coco: coco['categories'][1].update(name=3), 'the name 3'),
        (
            lambda coco: coco['images'].append(
                dict(id=99, file_name='gone.jpg', width=9, height=9)
            ),
            "1 of 5 images .* are not there, the first is '.*/train/gone.jpg'",
        ),
        (
            lambda coco: coco['images'][0].update(file_name='train\\0.jpg'),
            'its name has backslashes',
        ),
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
        (setting('segmentation', []), "has no 'segmentation'"),
        (first('segmentation', None), r"has no 'segmentation'.*\(1 of 8"),
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
    look(without('iscrowd'), phases=['train'])


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
    return len(dataset), sum(
        len(dataset.get_data_info(i)['instances']) for i in range(len(dataset))
    )


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
    assert any('5 of 8 boxes of train_dataloader.dataset reach' in line for line in lines)
    assert any('1 of 4 images of train_dataloader.dataset are the file' in line for line in lines)


def test_a_class_in_no_annotation_is_named(look):
    def change(coco):
        del coco['annotations'][1::2]

    findings, lines = look(change)
    assert findings[0].counts == dict(box=4, disc=0)
    assert (
        'warning: 1 of 2 classes of train_dataloader.dataset are in no annotation: disc'
    ) in lines


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


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientations_are_counted_where_sizes_cannot_tell(tmp_path, orientation):
    make(tmp_path, 'train', exif=orientation)
    (found,) = check_data(config(tmp_path), 'train')
    if orientation in (2, 3, 4):
        (warning,) = found.warnings
        assert warning.startswith('4 of 4 images of train_dataloader')
        assert '--apply-exif' in warning
    else:
        assert not found.warnings  # as stored, by its size


def test_a_file_that_states_the_size_of_turned_images(tmp_path):
    def change(coco):
        for image in coco['images']:
            image.update(width=SIZE[1], height=SIZE[0])

    make(tmp_path, 'train', exif=6, change=change)
    (found,) = check_data(config(tmp_path), 'train')
    assert not found.warnings
