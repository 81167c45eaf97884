# The same recipe without mixing.
_base_ = './tlalign_swin-mini_1xb128-32e_cifar10-10k.py'

model = dict(aligned=False, train_cfg=None)
