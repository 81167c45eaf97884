# On a tenth of CIFAR-10
_base_ = [
    '../_base_/models/lacvit_deit-mini.py',
    '../_base_/datasets/lacvit_cifar10_32.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/lacvit_stage1_runtime.py',
]

train_dataloader = dict(dataset=dict(pipeline=_base_.contrastive_pipeline))

train_cfg = dict(max_epochs=6, val_interval=6)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1))
