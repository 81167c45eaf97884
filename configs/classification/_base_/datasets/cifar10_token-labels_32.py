# CIFAR-10 as image files, with a map of token labels for every training image
# (tools/dataset_tools/make_token_labels.py). Crops instead of shifts, because
# a shift shows padding, of which a map knows nothing.
_base_ = './cifar10_imagefolder_32.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmtlalign.LoadTokenLabels', store='data/token_labels/cifar10'),
    dict(type='mmtlalign.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmtlalign.RandomResizedCrop', scale=32, crop_ratio_range=(0.5, 1.0)),
    dict(type='PackInputs', algorithm_keys=('token_labels',)),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
