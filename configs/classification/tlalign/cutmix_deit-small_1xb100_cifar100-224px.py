# The baseline: the same recipe, trained on area labels.
_base_ = './tlalign_deit-small_1xb100_cifar100-224px.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'))
