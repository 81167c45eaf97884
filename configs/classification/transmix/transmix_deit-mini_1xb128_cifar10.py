# Labels by area and by the class token's attention, evenly. The recipe is
# TL-Align's.
_base_ = '../tlalign/tlalign_deit-mini_1xb128_cifar10.py'

model = dict(target=dict(type='mmtlalign.AttentionTarget', ratio=0.5))
