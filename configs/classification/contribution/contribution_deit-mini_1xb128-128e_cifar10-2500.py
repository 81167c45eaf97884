# Shares follow what each image adds to the vectors. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-mini_1xb128-128e_cifar10-2500.py'

model = dict(target=dict(type='mmtlalign.AlignedTarget', propagation='contribution'))
