# The arm without mixing: the mini, on crops of two rows less than the images
# have, which leaves whole patches to paste.
_base_ = '../tlalign/tlalign-deit-mini_upernet_1xb4-600_camvid-120x90.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(120, 90), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(88, 120)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
