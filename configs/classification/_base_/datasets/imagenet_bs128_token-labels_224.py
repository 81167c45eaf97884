# ImageNet-1k with a map of token labels for every training image, made by
# tools/dataset_tools/make_token_labels.py. The augmentation is the usual one,
# but in Token Labeling's order: the crop comes last. Erased patches keep their
# labels, as published.
_base_ = './imagenet_bs64_224.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmtlalign.LoadTokenLabels', store='data/token_labels/imagenet'),
    dict(type='mmtlalign.RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='mmtlalign.RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[round(x) for x in _base_.bgr_mean], interpolation='bicubic'),
    ),
    dict(type='mmtlalign.RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=_base_.bgr_mean,
        fill_std=_base_.bgr_std,
    ),
    dict(type='PackInputs', algorithm_keys=('token_labels',)),
]

# The central nine tenths of the shorter side
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=248, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
