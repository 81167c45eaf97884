_base_ = [
    '../_base_/models/mask-rcnn_swin-mini_fpn.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/default_runtime.py',
]

checkpoint = 'work_dirs/tlalign_swin-mini_1xb32_digits/epoch_12.pth'
model = dict(
    data_preprocessor=dict(
        # of the digits, as in pretraining
        mean=[79.64] * 3,
        std=[90.77] * 3,
        pad_size_divisor=1,
    ),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
)

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5.0))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, eta_min=1e-5, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=2, val_interval=2)

default_hooks = dict(logger=dict(interval=20))

auto_scale_lr = dict(base_batch_size=4)
