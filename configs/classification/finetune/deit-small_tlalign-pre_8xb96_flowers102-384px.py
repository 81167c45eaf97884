_base_ = [
    '../_base_/recipes/finetune_deit-small_384.py',
    '../_base_/datasets/finetune_flowers102_384.py',
]
model = dict(head=dict(num_classes=_base_.num_classes))
