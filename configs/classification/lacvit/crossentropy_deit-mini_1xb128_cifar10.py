# On a tenth of CIFAR-10. As many images pass through the whole network as in
# stage 1 of LaCViT: 12 epochs of one view, 6 of two.
_base_ = [
    '../_base_/models/crossentropy_deit-mini.py',
    '../_base_/datasets/lacvit_cifar10_32.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/lacvit_runtime.py',
]

model = dict(head=dict(num_classes=10))

train_cfg = dict(max_epochs=12, val_interval=12)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1))
