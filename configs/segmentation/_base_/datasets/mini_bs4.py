# How the small data sets of segmentation are loaded: four images at a time, a
# folder of images and one of label maps for each split. No worker processes:
# a resumed run is bit-identical only without them.
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
    ),
)

val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])

test_dataloader = val_dataloader
test_evaluator = val_evaluator
