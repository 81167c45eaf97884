_base_ = [
    '../_base_/recipes/finetune_swin-tiny_224.py',
    '../_base_/datasets/finetune_stanford-cars_224.py',
]
model = dict(head=dict(num_classes=_base_.num_classes))
