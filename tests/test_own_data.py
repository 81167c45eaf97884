"""Every page's way to own data is gone, on made data, to a score."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from .conftest import needs_operators
from .tiny import ROOT, run_tool

pytestmark = pytest.mark.slow

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
train_cfg = dict(max_iters=20, val_interval=20)
"""
SLIM_UPERNET = """
norm_cfg = dict(type='BN', requires_grad=True)
model.update(
    data_preprocessor=dict(size=(64, 64)),
    decode_head=dict(in_channels=channels, channels=32, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=96, channels=32, norm_cfg=norm_cfg))
train_cfg.update(max_iters=40, val_interval=40)
"""
DETECTOR = """
train_cfg = dict(max_epochs=3, val_interval=3)
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


def write_data(root):
    """Grey images of a red car and a blue bus, as both pages want them.

    In label maps, the second class is where the car is; the bus is of the first.
    """
    categories = [dict(id=1, name='car'), dict(id=2, name='bus')]
    for split, count in (('train', 12), ('val', 6)):
        pictures, maps = root / 'images' / split, root / 'annotations' / split
        pictures.mkdir(parents=True)
        maps.mkdir(parents=True)
        (root / split).symlink_to(pictures)
        images, annotations = [], []
        rng = np.random.default_rng(count)
        for i in range(count):
            picture = rng.integers(60, 80, (90, 120, 3), np.uint8)
            labels = np.zeros((90, 120), np.uint8)
            for label, colour in ((1, (230, 40, 40)), (2, (40, 40, 230))):
                w, h = rng.integers(28, 44, 2).tolist()
                x, y = int(rng.integers(60 * label - 60, 60 * label - w)), int(rng.integers(90 - h))
                picture[y : y + h, x : x + w] = colour
                labels[y : y + h, x : x + w] = label == 1
                box = dict(id=len(annotations) + 1, image_id=i, category_id=label, iscrowd=0)
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                box |= dict(bbox=[x, y, w, h], area=w * h, segmentation=[polygon])
                annotations.append(box)
            labels[:3] = 255
            Image.fromarray(picture).save(pictures / f'{i}.jpg', quality=95)
            Image.fromarray(labels).save(maps / f'{i}.png')
            images.append(dict(id=i, file_name=f'{i}.jpg', width=120, height=90))
        coco = dict(images=images, annotations=annotations, categories=categories)
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(coco))


@pytest.fixture
def train(tmp_path):
    """Train on made data what a page's section has for a CPU, or, slimmer, what it has for a GPU;
    returns the last scores."""
    needs_operators()

    def run(page, small, slimmer):
        section = (ROOT / f'docs/{page}.md').read_text().partition('\n## Own data\n')[2]
        configs = re.findall(r'```python\n(.*?)```', section.partition('\n## ')[0], re.DOTALL)
        assert len(configs) == 2
        write_data(tmp_path / 'data/mine')
        (tmp_path / 'path').mkdir()
        (tmp_path / 'path/to').symlink_to(ROOT)
        (tmp_path / 'mine.py').write_text(configs[bool(slimmer)])
        (tmp_path / 'small.py').write_text(SMALL + small + slimmer)
        done = run_tool('train.py', 'small.py', folder=tmp_path)
        assert done.returncode == 0, done.stderr
        (log,) = tmp_path.glob('work_dirs/small/*/vis_data/scalars.json')
        return json.loads(log.read_text().splitlines()[-1])

    return run


@pytest.mark.parametrize('slimmer', ['', SLIM_SWIN + SLIM_UPERNET], ids=['CPU', 'GPU'])
def test_segmentation(train, slimmer):
    scores = train('segmentation', SEGMENTER, slimmer)
    assert scores['mIoU'] > 75  # 47 for background everywhere
    assert 80 < scores['aAcc'] < 100


@pytest.mark.parametrize('slimmer', ['', SLIM_SWIN + SLIM_MASK_RCNN], ids=['CPU', 'GPU'])
def test_detection(train, slimmer):
    scores = train('detection', DETECTOR, slimmer)
    for kind in ('bbox', 'segm')[: 1 + bool(slimmer)]:
        assert scores[f'coco/{kind}_mAP_50'] > 0.3
