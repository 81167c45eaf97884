# Shares follow what each image adds to the vectors. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-mini_1xb128_cifar10.py'

model = dict(target=dict(type='mmtlalign.AlignedTarget', propagation='contribution'))
