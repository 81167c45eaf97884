_base_ = [
    '../_base_/models/mask-rcnn_swin-mini_fpn.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/default_runtime.py'
]

checkpoint = 'work_dirs/tlalign_swin-mini_1xb32_digits/epoch_12.pth'
model = dict(
    data_preprocessor=dict(
        # of the digits, as in pretraining
        mean=[79.64] * 3,
        std=[90.77] * 3,
        pad_size_divisor=1),
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    # No decay on norms and on what is learnt per position
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)}),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        eta_min=1e-5,
        convert_to_iter_based=True)
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=2)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(logger=dict(interval=20))

auto_scale_lr = dict(base_batch_size=4)
