# The baseline: the same recipe, trained on area labels.
_base_ = './tlalign_deit-digits_1xb32_digits.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'))
