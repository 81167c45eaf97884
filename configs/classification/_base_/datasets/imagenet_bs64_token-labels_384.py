# The same at 384 px, tested on the whole shorter side.
_base_ = './imagenet_bs128_token-labels_224.py'

train_pipeline = _base_.train_pipeline
train_pipeline[4].scale = 384
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 384
test_pipeline[2].crop_size = 384

train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
