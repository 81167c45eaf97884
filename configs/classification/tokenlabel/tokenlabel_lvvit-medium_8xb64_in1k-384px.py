_base_ = './tokenlabel_lvvit-small_8xb64_in1k-384px.py'

model = dict(backbone=dict(arch='medium', drop_path_rate=0.2), head=dict(in_channels=512))
load_from = 'work_dirs/tokenlabel_lvvit-medium_8xb128_in1k/epoch_310.pth'
