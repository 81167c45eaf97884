# BCCD blood cells, 640x480 px, COCO layout: data/bccd/{train,val}/*.jpg and
# data/bccd/annotations/instances_{train,val}.json.
data_hint = (
    'get github.com/Shenggan/BCCD_Dataset and convert it: '
    'python tools/dataset_tools/bccd_to_coco.py BCCD_Dataset/BCCD'
)

# Names in the order of the annotation files, which is what numbers labels
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))

# A quarter of the full size: red cells are then about 25 px wide, white ones
# 47, platelets 9.
scale = (160, 120)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # A smear has neither top nor left
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackDetInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

# No worker processes: loading is little beside a training step on a CPU, and
# a resumed run is bit-identical only without them.
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root='data/bccd',
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train'),
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root='data/bccd',
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file='data/bccd/annotations/instances_val.json',
    metric='bbox',
    classwise=True,
)
test_evaluator = val_evaluator
