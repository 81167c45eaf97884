_base_ = [
    '../_base_/models/swin-mini_32.py',
    '../_base_/datasets/cifar10_imagefolder_32.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))

default_hooks = dict(logger=dict(interval=20))
