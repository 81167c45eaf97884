# CamVid at a quarter of its 480x360 px. Whole images, since a plain ViT's
# position embeddings are stretched over what it sees.
_base_ = './camvid_240x180.py'

train_pipeline = [step for step in _base_.train_pipeline if step.type != 'RandomCrop']
train_pipeline[2].scale = (120, 90)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (120, 90)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
