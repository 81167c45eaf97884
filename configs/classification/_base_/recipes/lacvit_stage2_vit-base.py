# The same with ViT-B.
_base_ = './lacvit_stage2_deit-small.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
