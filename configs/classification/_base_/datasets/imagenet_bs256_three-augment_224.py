# ImageNet-1k with the augmentation of DeiT III: one of grey, solarize and
# blur, then colour jitter; three copies of a third of the images an epoch;
# testing without a margin around the crop.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_deit3_224.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandomChoice',
        transforms=[
            [
                dict(
                    type='RandomGrayscale',
                    prob=1.0,
                    keep_channels=True,
                    # of blue, green and red
                    channel_weights=(0.114, 0.587, 0.299),
                )
            ],
            [dict(type='Solarize', thr=128, prob=1.0)],
            [
                dict(
                    type='GaussianBlur',
                    # a radius drawn evenly from the range
                    magnitude_range=(0.1, 2.0),
                    magnitude_std='inf',
                    prob=1.0,
                )
            ],
        ],
    ),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=256,
    dataset=dict(pipeline=train_pipeline),
    sampler=dict(type='RepeatAugSampler', num_repeats=3),
    collate_fn=dict(type='default_collate'),
)
val_dataloader = dict(collate_fn=dict(type='default_collate'))
test_dataloader = dict(collate_fn=dict(type='default_collate'))
