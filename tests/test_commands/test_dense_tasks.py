"""The same two commands on a detector and a segmenter."""

import json

import mmcv
import numpy as np
import pytest

from mmtlalign.commands.start_up_noise import KNOWN_NOISE

from ..conftest import needs_operators
from ..tiny import run_tool

COMMON = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict()
test_cfg = dict()
log_processor = dict(by_epoch=False)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
custom_hooks = [dict(type='mmtlalign.ResumeRandomState')]
randomness = dict(seed=0)
"""

DETECTOR = (
    """
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
default_scope = 'mmdet'
model = dict(
    backbone=dict(depth=18, base_channels=4, init_cfg=None),
    neck=dict(in_channels=[4, 8, 16, 32], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=dict(in_channels=8, fc_out_channels=16, num_classes=2)))
dataset = dict(
    type='CocoDataset', data_root='data', ann_file='boxes.json',
    data_prefix=dict(img='images'), metainfo=dict(classes=('a', 'b')))
train_dataloader = dict(
    batch_size=2, num_workers=0,
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomFlip', prob=.5),
        dict(type='PackDetInputs')]))
val_dataloader = dict(
    batch_size=1, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, test_mode=True, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(32, 32), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file='data/boxes.json')
test_evaluator = val_evaluator
"""
    + COMMON
)

SEGMENTER = (
    """
default_scope = 'mmseg'
norm_cfg = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.] * 3, std=[60.] * 3,
        size=(32, 32)),
    backbone=dict(type='ResNet', depth=18, base_channels=4,
                  norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', in_channels=32, channels=8, num_convs=1,
        num_classes=2, norm_cfg=norm_cfg),
    test_cfg=dict(mode='whole'))
dataset = dict(
    type='BaseSegDataset', data_root='data',
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    img_suffix='.png', reduce_zero_label=False,
    metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [255, 0, 0]]))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler'),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RandomFlip', prob=.5),
        dict(type='PackSegInputs')]))
val_dataloader = dict(
    batch_size=1, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
"""
    + COMMON
)


@pytest.fixture
def data(tmp_path):
    """Four images of a bright square, with its box and its mask."""
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for i in range(4):
        image = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
        mask = np.zeros((32, 32), dtype=np.uint8)
        x, y = rng.integers(0, 16, 2).tolist()
        image[y : y + 16, x : x + 16] += 150
        mask[y : y + 16, x : x + 16] = 1
        mmcv.imwrite(image, str(tmp_path / f'data/images/{i}.png'))
        mmcv.imwrite(mask, str(tmp_path / f'data/masks/{i}.png'))
        images.append(dict(id=i, file_name=f'{i}.png', width=32, height=32))
        boxes.append(
            dict(
                id=i + 1,
                image_id=i,
                category_id=i % 2 + 1,
                bbox=[x, y, 16, 16],
                area=256,
                iscrowd=0,
            )
        )
    (tmp_path / 'data/boxes.json').write_text(
        json.dumps(
            dict(
                images=images,
                annotations=boxes,
                categories=[dict(id=1, name='a'), dict(id=2, name='b')],
            )
        )
    )
    return tmp_path


@pytest.mark.parametrize(
    'config, metric, unit, drawn',
    [
        (DETECTOR, 'coco/bbox_mAP: ', 'AP50', ['boxes', 'picture', 'true_boxes']),
        (SEGMENTER, 'mIoU: ', 'IoU', ['map', 'picture', 'true_map']),
    ],
    ids=['detector', 'segmenter'],
)
def test_one_pair_of_commands_serves_every_task(data, config, metric, unit, drawn):
    needs_operators()
    (data / 'dense.py').write_text(config)
    trained = run_tool('train.py', 'dense.py', folder=data)
    assert trained.returncode == 0, trained.stderr
    assert 'Iter(train) [2/2]' in trained.stdout
    assert metric in trained.stdout
    assert 'report: ' in trained.stdout
    found = json.loads((data / 'work_dirs/dense/predictions.json').read_text())
    assert [sorted(image['drawn']) for image in found['images']] == [drawn] * 4
    assert found['per_class']['unit'] == unit
    page = (data / 'work_dirs/dense/report.html').read_text()
    assert page.count('<figure class="sample"') == 4 and f'<th>{unit}, %</th>' in page
    tested = run_tool('test.py', 'dense.py', 'work_dirs/dense/iter_2.pth', folder=data)
    assert tested.returncode == 0, tested.stderr
    assert metric in tested.stdout
    for message in KNOWN_NOISE:
        assert message.split('. ')[0] not in trained.stdout + trained.stderr
