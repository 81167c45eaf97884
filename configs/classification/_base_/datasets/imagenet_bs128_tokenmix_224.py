# ImageNet-1k with maps of token labels for TokenMix, tested on the central
# 224 px of 256, as DeiT and Swin are. Mixup and TokenMix evenly; the mask is
# drawn on 14x14 cells of 16 px whatever the network's grid.
_base_ = './imagenet_bs128_token-labels_224.py'

data_preprocessor = dict(type='mmtlalign.TokenLabelDataPreprocessor')

test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 256
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

tokenmix = dict(
    target=dict(type='mmtlalign.TokenMixTarget'),
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=16),
            dict(type='mmtlalign.TokenMix', ratio=4 / 7, patch_size=16),
        ]
    ),
    head=dict(loss=dict(use_sigmoid=True, loss_weight=1 / 1000)),
)  # the mean
