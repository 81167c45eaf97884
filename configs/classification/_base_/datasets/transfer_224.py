# Any folder of image files at 224x224 px, normalised as in pretraining and
# tested on the central 7/8. What is done to training images is the method's.
data_preprocessor = dict(
    # RGB, those of pretraining
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    # files are read as BGR
    to_rgb=True,
)

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    num_workers=5,
    persistent_workers=False,  # they would not resume bit-identically
    collate_fn=dict(type='default_collate'),
)

# The whole test split, the last batch included
val_dataloader = dict(
    num_workers=5,
    dataset=dict(pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
test_dataloader = val_dataloader
