# CIFAR-10 as image files, 32x32 px: data/cifar10/{train,val}/<class>/*.jpg
data_hint = (
    'python tools/dataset_tools/cifar10_to_folders.py makes the folders from the official archive'
)

data_preprocessor = dict(
    num_classes=10,
    # RGB mean and standard deviation of the training images
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    # files are read as BGR
    to_rgb=True,
)

# Shift and mirror only: runs of a few epochs are far from overfitting, and
# every batch is mixed on top of it.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]

test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

# No worker processes: loading takes about 0.3 ms an image, little beside a
# training step on a CPU, and a resumed run is bit-identical only without them.
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='mmtlalign.ImageFolderSubset',
        # 2,000 of the 5,000 images of every class, the same in every run
        num_samples=20000,
        seed=0,
        data_root='data/cifar10',
        data_prefix='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
)

val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='CustomDataset', data_root='data/cifar10', data_prefix='val', pipeline=test_pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
