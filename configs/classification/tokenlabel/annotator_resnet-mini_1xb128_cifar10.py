# A ResNet of 0.2 M parameters that makes the maps of token labels for the
# LV-ViT mini: trained on the same 20,000 images, with maps of 8x8.
_base_ = [
    '../_base_/datasets/cifar10_imagefolder_32.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet_CIFAR',
        depth=18,
        num_stages=3,
        stem_channels=16,
        base_channels=16,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

train_cfg = dict(val_interval=5)

default_hooks = dict(logger=dict(interval=20))
