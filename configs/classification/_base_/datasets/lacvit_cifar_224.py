# CIFAR in its own format: images come decoded, as RGB.
_base_ = './lacvit_224.py'

data_preprocessor = dict(to_rgb=False)

train_pipeline = _base_.train_pipeline[1:]
contrastive_pipeline = _base_.contrastive_pipeline[1:]
# of red, green and blue
contrastive_pipeline[0].transforms[0][3].channel_weights = (0.299, 0.587, 0.114)
test_pipeline = _base_.test_pipeline[1:]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
