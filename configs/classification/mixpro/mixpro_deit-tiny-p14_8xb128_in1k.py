_base_ = './mixpro_deit-small-p14_8xb128_in1k.py'

model = dict(backbone=dict(arch='deit-tiny'), head=dict(in_channels=192))
