_base_ = './tokenlabel_lvvit-small_8xb128_in1k.py'

model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=240))
