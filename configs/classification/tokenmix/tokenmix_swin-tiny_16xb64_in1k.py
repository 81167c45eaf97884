# TokenMix in Swin's recipe. The mask is drawn on 14x14 cells of 16 px, as for
# DeiT: Swin's own 4 px would make it finer, and neither the mask nor the maps
# ask for the network's grid. No code was published for Swin.
_base_ = [
    '../_base_/models/swin-tiny_224.py',
    '../_base_/datasets/imagenet_bs128_token-labels_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    '../_base_/token_label_runtime.py'
]

data_preprocessor = dict(type='mmtlalign.TokenLabelDataPreprocessor')

model = dict(
    head=dict(
        loss=dict(use_sigmoid=True, loss_weight=1 / 1000)),  # the mean
    target=dict(type='mmtlalign.TokenMixTarget'),
    train_cfg=dict(augments=[
        dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=16),
        dict(type='mmtlalign.TokenMix', ratio=4 / 7, patch_size=16)
    ]))

# Swin's test: the central 224 px of 256
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 256
train_dataloader = dict(batch_size=64)
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
