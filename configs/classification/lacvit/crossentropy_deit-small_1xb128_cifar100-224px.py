_base_ = [
    '../_base_/recipes/lacvit_crossentropy_deit-small.py',
    '../_base_/datasets/lacvit_cifar100_224.py',
]
model = dict(head=dict(num_classes=_base_.num_classes))
