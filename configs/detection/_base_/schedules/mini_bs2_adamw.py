# AdamW for the small detectors: about 500 short steps at batch 2, half an
# epoch of warm-up, a tenth of the rate for the last fifth.
_base_ = './adamw_1x.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=10.0, norm_type=2))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=5, milestones=[4], gamma=0.1),
]

train_cfg = dict(max_epochs=5, val_interval=5)

auto_scale_lr = dict(base_batch_size=2)
