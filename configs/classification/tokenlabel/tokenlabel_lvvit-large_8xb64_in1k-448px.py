# At 448 px, as the large model was published.
_base_ = './tokenlabel_lvvit-small_8xb64_in1k-384px.py'

model = dict(
    backbone=dict(arch='large', img_size=448, drop_path_rate=0.3), head=dict(in_channels=768)
)
load_from = 'work_dirs/tokenlabel_lvvit-large_8xb128_in1k/epoch_310.pth'

train_pipeline = _base_.train_pipeline
train_pipeline[3].num_policies = 3
train_pipeline[4].scale = 448
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 448
test_pipeline[2].crop_size = 448

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
