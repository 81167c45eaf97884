# TokenMix's recipe for DeiT-S, from `exp/deit_small/run.sh` of its code and
# the defaults of `main.py`: DeiT's schedule without repeated augmentation,
# Mixup and TokenMix evenly, binary cross entropy, and an average of the
# weights. It used mixed precision (`--amp`), and maps of an NFNet-F6.
_base_ = [
    '../_base_/models/deit-small_224.py',
    '../_base_/datasets/imagenet_bs128_token-labels_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_deit.py',
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

# DeiT's test: the central 224 px of 256
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 256
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

custom_hooks = [
    *_base_.custom_hooks,
    # an average over about 25,000 iterations: 1 - 0.99996
    dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL'),
]
