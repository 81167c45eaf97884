# The baseline: the same recipe, trained on area labels.
_base_ = './tlalign_deit-small_8xb128_in1k.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'))
