_base_ = ['../_base_/recipes/cifar_deit-small.py', '../_base_/datasets/cifar10_bs100_224.py']
model = dict(head=dict(num_classes=_base_.num_classes))
