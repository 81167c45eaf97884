_base_ = [
    '../_base_/recipes/finetune_swin-tiny_384.py',
    '../_base_/datasets/finetune_oxford-pets_384.py',
]
model = dict(head=dict(num_classes=_base_.num_classes))
