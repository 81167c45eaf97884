_base_ = [
    '../_base_/recipes/lacvit_stage1_vit-base.py',
    '../_base_/datasets/lacvit_flowers102_224.py',
]
train_dataloader = dict(dataset=dict(pipeline=_base_.contrastive_pipeline))
