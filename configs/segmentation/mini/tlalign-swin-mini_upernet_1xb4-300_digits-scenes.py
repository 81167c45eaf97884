_base_ = [
    '../_base_/models/upernet_swin-mini.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/mini_adamw.py',
    '../_base_/default_runtime.py'
]

checkpoint = 'work_dirs/tlalign_swin-mini_1xb32_digits/epoch_12.pth'
model = dict(
    # of the digits, as in pretraining
    data_preprocessor=dict(mean=[79.64] * 3, std=[90.77] * 3),
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))

train_cfg = dict(max_iters=300, val_interval=300)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=50))
