# The same recipe without mixing.
_base_ = './tlalign_deit-mini_1xb128-128e_cifar10-2500.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'), train_cfg=None)
