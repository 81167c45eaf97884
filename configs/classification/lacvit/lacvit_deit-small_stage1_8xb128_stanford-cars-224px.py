_base_ = [
    '../_base_/recipes/lacvit_stage1_deit-small.py',
    '../_base_/datasets/lacvit_stanford-cars_224.py',
]
train_dataloader = dict(dataset=dict(pipeline=_base_.contrastive_pipeline))
