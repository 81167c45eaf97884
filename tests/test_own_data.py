"""Every page's way to own data is gone, on made data, to a score."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from .conftest import needs_operators
from .tiny import ROOT, run_tool

SIZE = 120, 90
COLOURS = (230, 40, 40), (40, 40, 230)

# So small that they run in seconds on a CPU.
SMALL = """
_base_ = ['mine.py']
param_scheduler = None
default_hooks = dict(logger=dict(interval=10))
model = dict(backbone=dict(init_cfg=None))
"""
SMALL_MINI_SEGMENTER = (
    SMALL
    + """
train_dataloader = dict(batch_size=1)
train_cfg = dict(max_iters=40, val_interval=40)
"""
)
SMALL_SEGMENTER = (
    SMALL
    + """
norm_cfg = dict(type='BN', requires_grad=True)
model.update(
    data_preprocessor=dict(size=(64, 64)),
    decode_head=dict(channels=32, norm_cfg=norm_cfg),
    auxiliary_head=dict(channels=32, norm_cfg=norm_cfg))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (120, 90)
train_pipeline[3].crop_size = (64, 64)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (120, 90)
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline), **workers)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline), **workers)
train_cfg = dict(max_iters=40, val_interval=40)
"""
)
SMALL_MINI_DETECTOR = (
    SMALL
    + """
train_cfg = dict(max_epochs=8, val_interval=8)
"""
)
SMALL_DETECTOR = (
    SMALL
    + """
model['backbone']['arch'] = dict(
    _delete_=True, embed_dims=24, depths=[1, 1, 1, 1],
    num_heads=[1, 2, 4, 8])
model.update(
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        mask_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=64),
        mask_head=dict(in_channels=32, conv_out_channels=32, num_convs=2)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = SIZE
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = SIZE
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline), **workers)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline), **workers)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=16, val_interval=16)
""".replace('SIZE', str(SIZE))
)


def blocks(page):
    """The configs of the section on own data."""
    text = (ROOT / f'docs/{page}.md').read_text()
    section = re.search(r'## Own data\n(.*?)\n## ', text, re.DOTALL)[1]
    return re.findall(r'```python\n(.*?)```', section, re.DOTALL)


def scenes(count, seed):
    """Grey images of one object a class, as (image, [(x, y, w, h), ...])."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
        image += rng.integers(0, 20, image.shape, np.uint8)
        boxes = []
        for colour, left in zip(COLOURS, (0, SIZE[0] // 2)):
            w, h = rng.integers(28, 44, 2).tolist()
            x = left + int(rng.integers(SIZE[0] // 2 - w))
            y = int(rng.integers(SIZE[1] - h))
            image[y : y + h, x : x + w] = colour
            boxes.append((x, y, w, h))
        yield image, boxes


def write_images(folder):
    """Yields the boxes of the images that it writes."""
    folder.mkdir(parents=True)
    for i, (image, boxes) in enumerate(scenes(12, len(folder.name))):
        Image.fromarray(image).save(folder / f'{i}.jpg', quality=95)
        yield i, boxes


def label_maps(root):
    """The second class is where the red boxes are; blue ones are the first."""
    for split in ('train', 'val'):
        maps = root / 'annotations' / split
        maps.mkdir(parents=True)
        for i, ((x, y, w, h), _) in write_images(root / 'images' / split):
            labels = np.zeros(SIZE[::-1], np.uint8)
            labels[y : y + h, x : x + w] = 1
            labels[:3] = 255
            Image.fromarray(labels).save(maps / f'{i}.png')


def boxes(root):
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        images, annotations = [], []
        for i, found in write_images(root / split):
            images.append(dict(id=i, file_name=f'{i}.jpg', width=SIZE[0], height=SIZE[1]))
            for label, (x, y, w, h) in enumerate(found, 1):
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i,
                        category_id=label,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    )
                )
        (root / f'annotations/instances_{split}.json').write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=[dict(id=1, name='car'), dict(id=2, name='bus')],
                )
            )
        )


@pytest.fixture
def train(tmp_path):
    """Train a page's config on made data; returns its last scores."""
    needs_operators()

    def run(page, number, make, small):
        make(tmp_path / 'data/mine')
        (tmp_path / 'path').mkdir()
        (tmp_path / 'path/to').symlink_to(ROOT)
        (tmp_path / 'mine.py').write_text(blocks(page)[number])
        (tmp_path / 'small.py').write_text(small)
        done = run_tool('train.py', 'small.py', folder=tmp_path)
        assert done.returncode == 0, done.stderr
        (log,) = tmp_path.glob('work_dirs/small/*/vis_data/scalars.json')
        return json.loads(log.read_text().splitlines()[-1])

    return run


def test_no_way_is_left_out():
    assert len(blocks('segmentation')) == len(blocks('detection')) == 2


@pytest.mark.parametrize(
    'number, small', enumerate([SMALL_MINI_SEGMENTER, SMALL_SEGMENTER]), ids=['mini', 'ade20k']
)
def test_segmentation(train, number, small):
    scores = train('segmentation', number, label_maps, small)
    assert scores['mIoU'] > 75  # 47 for background everywhere
    assert 80 < scores['aAcc'] < 100


@pytest.mark.parametrize(
    'number, small', enumerate([SMALL_MINI_DETECTOR, SMALL_DETECTOR]), ids=['mini', 'coco']
)
def test_detection(train, number, small):
    scores = train('detection', number, boxes, small)
    assert scores['coco/bbox_mAP_50'] > 0.3
    if number:
        assert scores['coco/segm_mAP_50'] > 0.3
