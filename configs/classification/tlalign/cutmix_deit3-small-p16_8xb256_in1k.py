# The baseline: the same recipe, trained on area labels.
_base_ = './tlalign_deit3-small-p16_8xb256_in1k.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'))
