# Scenes of digits, 128x128 px: background and the digits 0 to 9.
_base_ = './mini_bs4.py'

data_hint = 'make the scenes: python tools/dataset_tools/make_digit_scenes.py'

# No flips: mirrored digits are none.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

# Predictions are brought back to the size of the image and judged there.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

dataset = dict(
    data_root='data/digit_scenes',
    img_suffix='.png',
    metainfo=dict(
        classes=('background', *'0123456789'),
        palette=[
            [0, 0, 0],
            [230, 25, 75],
            [60, 180, 75],
            [255, 225, 25],
            [0, 130, 200],
            [245, 130, 48],
            [145, 30, 180],
            [70, 240, 240],
            [240, 50, 230],
            [210, 245, 60],
            [250, 190, 212],
        ],
    ),
)

train_dataloader = dict(dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
