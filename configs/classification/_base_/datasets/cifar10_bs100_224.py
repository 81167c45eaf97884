# CIFAR-10 in its own format, enlarged to 224x224 px. The augmentation is
# OpenMixup's for CIFAR-100 at this size (its file sz224_randaug_bs100.py),
# with the host's list of RandAugment operations in place of FixMatch's.
_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'

num_classes = 10

train_pipeline = [
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.8, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=7,
        magnitude_std=0.5,
        hparams=dict(pad_val=[125, 123, 114], interpolation='bicubic'),
    ),
    dict(type='PackInputs'),
]

test_pipeline = [
    dict(type='Resize', scale=(224, 224), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=100,
    num_workers=4,
    dataset=dict(pipeline=train_pipeline),
    collate_fn=dict(type='default_collate'),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=4,
    dataset=dict(data_root='data/cifar10', pipeline=test_pipeline),
    collate_fn=dict(type='default_collate'),
)
test_dataloader = val_dataloader

val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator
