"""Every page's way to own data is gone, on made data, to a score."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from .conftest import needs_operators
from .tiny import ROOT, run_tool

pytestmark = pytest.mark.slow

SIZE = 120, 90
COLOURS = (230, 40, 40), (40, 40, 230)

# So small that they run in seconds on a CPU.
SMALL = """
_base_ = ['mine.py']
param_scheduler = None
default_hooks = dict(logger=dict(interval=10))
model = dict(backbone=dict(init_cfg=None))
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (120, 90)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (120, 90)
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline), **workers)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline), **workers)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
"""
SLIM_SWIN = """
arch = dict(_delete_=True, embed_dims=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])
model['backbone'].update(arch=arch)
channels = [24, 48, 96, 192]
"""
SEGMENTER = """
train_pipeline[3].crop_size = (64, 64)
train_cfg = dict(max_iters=40, val_interval=40)
"""
SLIM_UPERNET = """
norm_cfg = dict(type='BN', requires_grad=True)
model.update(
    data_preprocessor=dict(size=(64, 64)),
    decode_head=dict(in_channels=channels, channels=32, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=96, channels=32, norm_cfg=norm_cfg))
"""
DETECTOR = """
train_cfg = dict(max_epochs=5, val_interval=5)
"""
SLIM_MASK_RCNN = """
model.update(
    neck=dict(in_channels=channels, out_channels=32),
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
train_cfg.update(max_epochs=7, val_interval=7)
"""


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


def write_data(root):
    """Scenes as both pages want them.

    In label maps, the second class is where the red boxes are; blue ones are the first.
    """
    categories = [dict(id=1, name='car'), dict(id=2, name='bus')]
    for split, count in (('train', 12), ('val', 6)):
        pictures, maps = root / 'images' / split, root / 'annotations' / split
        pictures.mkdir(parents=True)
        maps.mkdir(parents=True)
        (root / split).symlink_to(pictures)
        images, annotations = [], []
        for i, (image, boxes) in enumerate(scenes(count, count)):
            Image.fromarray(image).save(pictures / f'{i}.jpg', quality=95)
            images.append(dict(id=i, file_name=f'{i}.jpg', width=SIZE[0], height=SIZE[1]))
            for label, (x, y, w, h) in enumerate(boxes, 1):
                ids = dict(id=len(annotations) + 1, image_id=i, category_id=label)
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                shape = dict(bbox=[x, y, w, h], area=w * h, iscrowd=0, segmentation=[polygon])
                annotations.append(dict(ids, **shape))
            labels = np.zeros(SIZE[::-1], np.uint8)
            x, y, w, h = boxes[0]
            labels[y : y + h, x : x + w] = 1
            labels[:3] = 255
            Image.fromarray(labels).save(maps / f'{i}.png')
        coco = dict(images=images, annotations=annotations, categories=categories)
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(coco))


@pytest.fixture
def train(tmp_path):
    """Train a page's config on made data; returns its last scores."""
    needs_operators()

    def run(configs, number, small):
        assert len(configs) == 2
        write_data(tmp_path / 'data/mine')
        (tmp_path / 'path').mkdir()
        (tmp_path / 'path/to').symlink_to(ROOT)
        (tmp_path / 'mine.py').write_text(configs[number])
        (tmp_path / 'small.py').write_text(SMALL + small)
        done = run_tool('train.py', 'small.py', folder=tmp_path)
        assert done.returncode == 0, done.stderr
        (log,) = tmp_path.glob('work_dirs/small/*/vis_data/scalars.json')
        return json.loads(log.read_text().splitlines()[-1])

    return run


@pytest.mark.parametrize('number, small', [(0, ''), (1, SLIM_SWIN + SLIM_UPERNET)])
def test_segmentation(train, number, small):
    scores = train(blocks('segmentation'), number, SEGMENTER + small)
    assert scores['mIoU'] > 75  # 47 for background everywhere
    assert 80 < scores['aAcc'] < 100


@pytest.mark.parametrize('number, small', [(0, ''), (1, SLIM_SWIN + SLIM_MASK_RCNN)])
def test_detection(train, number, small):
    scores = train(blocks('detection'), number, DETECTOR + small)
    for kind in ('bbox', 'segm')[: number + 1]:
        assert scores[f'coco/{kind}_mAP_50'] > 0.3
