# Shares follow what each image adds to the vectors. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_swin-tiny_16xb64_in1k.py'

model = dict(target=dict(type='mmtlalign.AlignedTarget', propagation='contribution'))
