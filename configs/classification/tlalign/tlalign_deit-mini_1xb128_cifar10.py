_base_ = [
    '../_base_/models/deit-mini_32.py',
    '../_base_/datasets/cifar10_imagefolder_32.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(logger=dict(interval=20))
