# DeiT III's schedule for its small model: 800 epochs at batch 2048.
_base_ = './adamw.py'

optim_wrapper = dict(optimizer=dict(_delete_=True, type='Lamb', lr=4e-3, weight_decay=0.05))

param_scheduler = [
    # from 1e-6
    dict(type='LinearLR', start_factor=2.5e-4, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5),
]

train_cfg = dict(by_epoch=True, max_epochs=800, val_interval=1)
auto_scale_lr = dict(base_batch_size=2048)
