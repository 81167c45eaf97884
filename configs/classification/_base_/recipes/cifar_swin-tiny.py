# The recipe of OpenMixup's swin_t_adamw_sz224_bs100_ep200.py (made for
# CIFAR-100), with CutMix moved to the 4 px grid of patches.
_base_ = [
    '../models/swin-tiny_224.py',
    '../schedules/cifar_bs100_adamw.py',
    '../default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=5e-4))
