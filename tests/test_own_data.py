"""Every page's way to own data is gone, on made data, to a score."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from mmtlalign.commands import check

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
SEGMENTER = """
train_pipeline[3].crop_size = (64, 64)
train_cfg = dict(max_iters=20, val_interval=20)
"""
DETECTOR = """
train_cfg = dict(max_epochs=3, val_interval=3)
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
def follow(tmp_path, monkeypatch):
    """Lay out made data, and what a page's section writes for a CPU and for a GPU."""
    needs_operators()
    monkeypatch.chdir(tmp_path)

    def follow(page):
        section = (ROOT / f'docs/{page}.md').read_text().partition('\n## Own data\n')[2]
        configs = re.findall(r'```python\n(.*?)```', section.partition('\n## ')[0], re.DOTALL)
        write_data(tmp_path / 'data/mine')
        (tmp_path / 'path').mkdir()
        (tmp_path / 'path/to').symlink_to(ROOT)
        for name, text in zip(('mine.py', 'on_a_gpu.py'), configs, strict=True):
            (tmp_path / name).write_text(text)

    return follow


@pytest.mark.parametrize(
    'page, small, least',
    [
        # 47 for background everywhere
        ('segmentation', SEGMENTER, dict(mIoU=75, aAcc=80)),
        ('detection', DETECTOR, {'coco/bbox_mAP_50': 0.3}),
    ],
)
def test_training_on_a_cpu(follow, tmp_path, page, small, least):
    follow(page)
    (tmp_path / 'small.py').write_text(SMALL + small)
    done = run_tool('train.py', 'small.py', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob('work_dirs/small/*/vis_data/scalars.json')
    scores = json.loads(log.read_text().splitlines()[-1])
    assert all(bound < scores[name] < 100 for name, bound in least.items())


@pytest.mark.parametrize(
    'page, classes',
    [
        ('segmentation', r'2 classes \(road \d+, river'),
        ('detection', r'2 classes \(car 12, bus 12'),
    ],
)
def test_the_config_for_a_gpu_fits_the_data(follow, capsys, page, classes):
    """Splits, classes and heads, as looked at before a training."""
    follow(page)
    check.main(['on_a_gpu.py'])
    said = capsys.readouterr().out
    assert 'images: train 12; val 6' in said and re.search(classes, said)
