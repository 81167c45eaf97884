# CIFAR in its own format: images come decoded, as RGB.
_base_ = './finetune_384.py'

data_preprocessor = dict(to_rgb=False)

train_pipeline = _base_.train_pipeline[1:]
train_pipeline[2].hparams.pad_val = [124, 116, 104]
test_pipeline = _base_.test_pipeline[1:]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
