# Scenes of digits, 128x128 px, with boxes and masks of the digits 0 to 9.
data_hint = 'make the scenes: python tools/dataset_tools/make_digit_scenes.py'

# No flips: mirrored digits are none.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs'),
]

# The host wants a scale factor, even if it is 1
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

dataset = dict(
    type='CocoDataset', data_root='data/digit_scenes', metainfo=dict(classes=tuple('0123456789'))
)

# No worker processes: a resumed run is bit-identical only without them.
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='images/train'),
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        test_mode=True,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/val'),
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(
    type='CocoMetric',
    ann_file='data/digit_scenes/annotations/instances_val.json',
    metric=['bbox', 'segm'],
)

test_dataloader = val_dataloader
test_evaluator = val_evaluator
