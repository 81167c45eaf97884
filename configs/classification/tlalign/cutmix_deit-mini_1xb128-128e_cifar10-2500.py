# The baseline: the same mixes, labelled by area; shares are for the log only.
_base_ = './tlalign_deit-mini_1xb128-128e_cifar10-2500.py'

model = dict(target=dict(type='mmtlalign.AreaTarget', monitor=True))
