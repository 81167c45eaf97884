# scikit-learn's handwritten digits, upscaled to 32x32 px: no download needed.
data_preprocessor = dict(
    num_classes=10,
    # of the training digits, which are grey
    mean=[79.64, 79.64, 79.64],
    std=[90.77, 90.77, 90.77],
    to_rgb=False,
)

# Small turns, shifts and changes of size; mirrored digits are none.
train_pipeline = [
    dict(type='NumpyToPIL', to_rgb=True),
    dict(
        type='torchvision/RandomAffine',
        degrees=5,
        translate=(0.03, 0.03),
        scale=(0.95, 1.05),
        interpolation='bilinear',
    ),
    dict(type='PILToNumpy', to_bgr=True),
    dict(type='PackInputs'),
]

test_pipeline = [dict(type='PackInputs')]

# No worker processes: the digits are in memory, and a resumed run is
# bit-identical only without them.
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type='mmtlalign.Digits', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
)

val_dataloader = dict(
    batch_size=360,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type='mmtlalign.Digits', split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
