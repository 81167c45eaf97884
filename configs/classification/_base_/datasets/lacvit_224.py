# One view an image to classify it, two to contrast it, as in LaCViT's code.
_base_ = './transfer_224.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.2, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]

contrastive_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiView',
        num_views=2,
        transforms=[
            [
                *train_pipeline[1:3],
                dict(
                    type='RandomApply',
                    transforms=dict(
                        type='ColorJitter',
                        brightness=0.4,
                        contrast=0.4,
                        saturation=0.4,
                        hue=0.1,
                        backend='cv2',
                    ),  # the other one warns
                    prob=0.8,
                ),
                dict(
                    type='RandomGrayscale',
                    prob=0.2,
                    keep_channels=True,
                    # of blue, green and red
                    channel_weights=(0.114, 0.587, 0.299),
                ),
            ]
        ],
    ),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=128,
    dataset=dict(pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader
