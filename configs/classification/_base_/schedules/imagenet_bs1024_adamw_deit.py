# DeiT's schedule as TL-Align used it: 300 epochs at batch 1024, at a rate of
# 1e-3 = 5e-4 * 1024 / 512.
_base_ = './adamw.py'

param_scheduler = [
    # from 1e-6
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5),
]

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
auto_scale_lr = dict(base_batch_size=1024)
