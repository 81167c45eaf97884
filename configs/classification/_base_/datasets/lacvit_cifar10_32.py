# A tenth of CIFAR-10's training images, as files of 32x32 px, with the
# augmentation of the large configs.
_base_ = './lacvit_224.py'

data_preprocessor = dict(
    # of all training images
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
)

train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 32
contrastive_pipeline = _base_.contrastive_pipeline
contrastive_pipeline[1].transforms[0][0].scale = 32
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

# No worker processes: a resumed run is bit-identical only without them.
train_dataloader = dict(
    num_workers=0,
    dataset=dict(
        type='mmtlalign.ImageFolderSubset',
        # 500 of the 5,000 images of every class, the same in every run
        num_samples=5000,
        seed=0,
        data_root='data/cifar10',
        data_prefix='train',
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(
        type='CustomDataset', data_root='data/cifar10', data_prefix='val', pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader
