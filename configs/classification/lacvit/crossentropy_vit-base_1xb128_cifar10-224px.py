_base_ = [
    '../_base_/models/crossentropy_vit-base.py',
    '../_base_/datasets/lacvit_cifar10_224.py',
    '../_base_/schedules/lacvit_crossentropy.py',
    '../_base_/lacvit_runtime.py'
]

model = dict(head=dict(num_classes=10))
