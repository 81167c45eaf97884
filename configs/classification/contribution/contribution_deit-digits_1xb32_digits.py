# Shares follow what each image adds to the vectors. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-digits_1xb32_digits.py'

model = dict(target=dict(type='mmtlalign.AlignedTarget', propagation='contribution'))
