_base_ = [
    '../_base_/models/linear_deit-small.py',
    '../_base_/datasets/lacvit_cifar10_224.py',
    '../_base_/schedules/lacvit_stage2.py',
    '../_base_/lacvit_runtime.py'
]

stage1 = 'lacvit_deit-small_stage1_8xb128_cifar10-224px'

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint=f'work_dirs/{stage1}/epoch_500.pth')),
    head=dict(num_classes=10))
