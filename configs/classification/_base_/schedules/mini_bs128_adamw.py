# AdamW for the small models, 10 epochs at batch 128.
_base_ = './adamw.py'

# One epoch of warm-up and then a cosine, both updated every iteration
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, convert_to_iter_based=True
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)
auto_scale_lr = dict(base_batch_size=128)
