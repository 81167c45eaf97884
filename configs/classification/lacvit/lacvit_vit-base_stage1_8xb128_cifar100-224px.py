_base_ = [
    '../_base_/models/lacvit_vit-base.py',
    '../_base_/datasets/lacvit_cifar100_224.py',
    '../_base_/schedules/lacvit_stage1.py',
    '../_base_/lacvit_stage1_runtime.py'
]

train_dataloader = dict(dataset=dict(pipeline=_base_.contrastive_pipeline))
