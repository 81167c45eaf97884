_base_ = [
    '../_base_/recipes/lacvit_crossentropy_vit-base.py',
    '../_base_/datasets/lacvit_cub200_224.py',
]
model = dict(head=dict(num_classes=_base_.num_classes))
