# Digits of 12 px planted on 24 px of clutter, with masks: no download needed.
data_preprocessor = dict(
    num_classes=10,
    # of the training images, which are grey, whatever is planted
    mean=[118, 118, 118],
    std=[42, 42, 42],
    to_rgb=False,
)

# Shifts only: mirrored digits are none. What comes into view is black.
train_pipeline = [
    dict(type='mmtlalign.RandomCrop', crop_size=24, padding=2),
    dict(type='PackInputs', algorithm_keys=('object_mask',)),
]

test_pipeline = [dict(type='PackInputs', algorithm_keys=('object_mask',))]

# No worker processes: the images are in memory, and a resumed run is
# bit-identical only without them.
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='mmtlalign.PlantedDigits',
        split='train',
        num_images=1000,
        object_size=12,
        image_size=24,
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
)

# Every digit held out five times, elsewhere and on other clutter
val_dataloader = dict(
    batch_size=397,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='mmtlalign.PlantedDigits',
        split='val',
        num_images=1985,
        object_size=12,
        image_size=24,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = dict(
    batch_size=400,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='mmtlalign.PlantedDigits',
        split='test',
        num_images=10000,
        object_size=12,
        image_size=24,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
test_evaluator = val_evaluator
