_base_ = [
    '../_base_/recipes/finetune_deit-small_224.py',
    '../_base_/datasets/finetune_oxford-pets_224.py',
]
model = dict(head=dict(num_classes=_base_.num_classes))
