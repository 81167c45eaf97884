# On a tenth of CIFAR-10, for a tenth of the epochs of the large configs
_base_ = [
    '../_base_/models/linear_deit-mini.py',
    '../_base_/datasets/lacvit_cifar10_32.py',
    '../_base_/schedules/lacvit_stage2.py',
    '../_base_/lacvit_runtime.py',
]

stage1 = 'lacvit_deit-mini_stage1_1xb128_cifar10'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint=f'work_dirs/{stage1}/epoch_6.pth')),
    head=dict(num_classes=10),
)

train_cfg = dict(max_epochs=10)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1))
