# The baseline: the same mixes, labelled by area; shares are for the log only.
_base_ = './tlalign_swin-mini_1xb128-64e_cifar10-5k.py'

model = dict(aligned=False, monitor=True)
