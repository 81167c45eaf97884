# The same recipe without mixing.
_base_ = './tlalign_deit-mini_1xb128-64e_cifar10-5k.py'

model = dict(aligned=False, train_cfg=None)
