# AdamW for the small runs: configs say for how many iterations (`max_iters`,
# `val_interval`, and how often a checkpoint is saved).
_base_ = './160k_adamw.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4, weight_decay=0.05), clip_grad=dict(max_norm=5.0))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50),
]

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop')

auto_scale_lr = dict(base_batch_size=4)
