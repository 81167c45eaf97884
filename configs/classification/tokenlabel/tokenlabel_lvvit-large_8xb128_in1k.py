# A smaller rate, more random depth, and three operations of RandAugment.
_base_ = './tokenlabel_lvvit-medium_8xb128_in1k.py'

model = dict(backbone=dict(arch='large', drop_path_rate=0.3), head=dict(in_channels=768))

train_pipeline = _base_.train_pipeline
train_pipeline[3].num_policies = 3
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor = 1e-3  # from 1e-6
