# The recipe of OpenMixup's swin_t_adamw_sz224_bs100_ep200.py (made for
# CIFAR-100), with CutMix moved to the 4 px grid of patches.
_base_ = [
    '../_base_/models/swin-tiny_224.py',
    '../_base_/datasets/cifar100_bs100_224.py',
    '../_base_/schedules/cifar_bs100_adamw.py',
    '../_base_/default_runtime.py'
]

model = dict(head=dict(num_classes=100))

optim_wrapper = dict(optimizer=dict(lr=5e-4))
