# The baseline: the same recipe, trained on area labels.
_base_ = './tlalign_swin-mini_1xb128_cifar10.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'))
