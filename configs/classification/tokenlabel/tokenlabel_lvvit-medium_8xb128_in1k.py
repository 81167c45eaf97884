_base_ = './tokenlabel_lvvit-small_8xb128_in1k.py'

model = dict(backbone=dict(arch='medium', drop_path_rate=0.2), head=dict(in_channels=512))

# The whole shorter side
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 224
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
