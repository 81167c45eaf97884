# The baseline: the same recipe, trained on area labels.
_base_ = './tlalign_t2t-vit-t-14_8xb64_in1k.py'

model = dict(target=dict(type='mmtlalign.AreaTarget'))
