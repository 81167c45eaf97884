# The same mixes, labelled by what is visible of the objects: true labels.
_base_ = './cutmix_deit-micro_1xb50-150e_planted-8in24px.py'

model = dict(target=dict(type='mmtlalign.ObjectTarget'))
