# The same mixes, labelled by what each image adds to the vectors.
_base_ = './cutmix_deit-micro_1xb50-150e_planted-8in24px.py'

model = dict(target=dict(type='mmtlalign.AlignedTarget', propagation='contribution'))
