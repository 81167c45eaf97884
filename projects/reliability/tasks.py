"""A training of a second for each task, on data that are made for it."""

import json
from pathlib import Path

import mmcv
import numpy as np

# Everything that draws is in it: numpy and torch transforms, mixing, dropout
# and drop path, a shuffled order.
CLASSIFIER = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=3, mean=[127.] * 3, std=[60.] * 3)
model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=16, patch_size=4, drop_rate=.1, drop_path_rate=.3),
    head=dict(
        type='mmtlalign.TLAlignVisionTransformerClsHead', num_classes=3, in_channels=16,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=.1, mode='original')),
    train_cfg=dict(augments=[dict(type='mmtlalign.TokenCutMix', patch_size=4)]))
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='images', pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='RandomCrop', crop_size=16, padding=2),
        dict(type='NumpyToPIL', to_rgb=True),
        dict(type='torchvision/ColorJitter', brightness=.5),
        dict(type='PILToNumpy', to_bgr=True),
        dict(type='PackInputs')]))
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='images', pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=.05),
    paramwise_cfg=dict(norm_decay_mult=0.))
param_scheduler = dict(type='CosineAnnealingLR', T_max=3)
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
custom_hooks = [dict(type='mmtlalign.ResumeRandomState')]
randomness = dict(seed=3)
"""

# The end of the two that follow.
DENSE = """
test_dataloader = val_dataloader
test_evaluator = val_evaluator
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

DETECTOR = f"""
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
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler'),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomFlip', prob=.5),
        dict(type='PackDetInputs')]))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, test_mode=True, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(32, 32), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs')]))
val_evaluator = dict(type='CocoMetric', ann_file='data/boxes.json')
{DENSE}"""

SEGMENTER = f"""
default_scope = 'mmseg'
norm_cfg = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.] * 3, std=[60.] * 3, size=(32, 32)),
    backbone=dict(type='ResNet', depth=18, base_channels=4, norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', in_channels=32, channels=8, num_convs=1, num_classes=2, norm_cfg=norm_cfg),
    test_cfg=dict(mode='whole'))
dataset = dict(
    type='BaseSegDataset', data_root='data', img_suffix='.png', reduce_zero_label=False,
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [255, 0, 0]]))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler'),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RandomFlip', prob=.5),
        dict(type='PackSegInputs')]))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')]))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
{DENSE}"""

ANNOTATOR = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=3, mean=[127.] * 3, std=[60.] * 3)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4,
                  stem_channels=4, out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=32))
"""
# Makes the tiny training one on token labels.
TOKEN_LABELS = """
model = dict(
    type='mmtlalign.TokenLabelClassifier',
    backbone=dict(
        type='mmtlalign.LVViT', img_size=16, patch_size=4, out_type='raw',
        arch=dict(model['backbone']['arch'], stem_channels=8)),
    head=dict(model['head'], type='mmtlalign.TokenLabelHead'),
    train_cfg=dict(augments=[dict(type='mmtlalign.MixToken', patch_size=4)]))
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'),
    dict(type='mmtlalign.LoadTokenLabels', store='maps'),
    dict(type='mmtlalign.RandomFlip', prob=.5),
    dict(type='mmtlalign.RandAugment', policies='timm_increasing',
         num_policies=2, magnitude_level=9),
    dict(type='mmtlalign.RandomResizedCrop', scale=16),
    dict(type='PackInputs', algorithm_keys=('token_labels', ))]
custom_hooks += [dict(type='mmtlalign.CheckTokenLabels')]
train_cfg['max_epochs'] = 1
"""


def write_classes(folder: Path) -> None:
    """Write 12 random images of 3 classes."""
    rng = np.random.default_rng(0)
    for i in range(12):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        mmcv.imwrite(image, str(folder / f'images/class{i % 3}/{i}.png'))


def write_scenes(folder: Path) -> None:
    """Write four images of a bright square, with its box and its mask."""
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for i in range(4):
        image = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
        mask = np.zeros((32, 32), dtype=np.uint8)
        x, y = rng.integers(0, 16, 2).tolist()
        image[y : y + 16, x : x + 16] += 150
        mask[y : y + 16, x : x + 16] = 1
        mmcv.imwrite(image, str(folder / f'data/images/{i}.png'))
        mmcv.imwrite(mask, str(folder / f'data/masks/{i}.png'))
        images.append(dict(id=i, file_name=f'{i}.png', width=32, height=32))
        box = dict(bbox=[x, y, 16, 16], area=256, iscrowd=0)
        boxes.append(dict(box, id=i + 1, image_id=i, category_id=i % 2 + 1))
    categories = [dict(id=1, name='a'), dict(id=2, name='b')]
    content = dict(images=images, annotations=boxes, categories=categories)
    (folder / 'data/boxes.json').write_text(json.dumps(content))
