# The baseline: the same recipe, trained on area labels.
_base_ = './tlalign_swin-tiny_16xb64_in1k.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'))
