_base_ = './tokenlabel_lvvit-small_8xb64_in1k-384px.py'

model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=240))
load_from = 'work_dirs/tokenlabel_lvvit-tiny_8xb128_in1k/epoch_310.pth'
