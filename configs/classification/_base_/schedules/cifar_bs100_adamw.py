# OpenMixup's schedule for ViTs on CIFAR-100 at 224 px: 200 epochs at batch
# 100. Its learning rate is 1e-3 for DeiT-S and 5e-4 for Swin-T.
_base_ = './adamw.py'

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, convert_to_iter_based=True
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
auto_scale_lr = dict(base_batch_size=100)
