_base_ = [
    '../_base_/models/upernet_swin-mini.py',
    '../_base_/datasets/camvid_240x180.py',
    '../_base_/schedules/mini_adamw.py',
    '../_base_/default_runtime.py',
]

checkpoint = 'work_dirs/tlalign_swin-mini_1xb128_cifar10/epoch_10.pth'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'))
)

train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
