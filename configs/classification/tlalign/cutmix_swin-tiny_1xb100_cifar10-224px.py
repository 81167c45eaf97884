# The baseline: the same recipe, trained on area labels.
_base_ = './tlalign_swin-tiny_1xb100_cifar10-224px.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'))
