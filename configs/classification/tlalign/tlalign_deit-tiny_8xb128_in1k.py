_base_ = './tlalign_deit-small_8xb128_in1k.py'

model = dict(backbone=dict(arch='deit-tiny'), head=dict(in_channels=192))
