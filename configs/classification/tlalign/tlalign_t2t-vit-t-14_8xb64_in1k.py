# The recipe of T2T-ViT's code, with CutMix on the 4 px grid on which it first
# splits images; the average of the weights is what is scored.
_base_ = [
    'mmpretrain::_base_/models/t2t-vit-t-14.py',
    '../_base_/datasets/imagenet_bs64_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_deit.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmtlalign.TLAlignClassifier',
    head=dict(type='mmtlalign.TLAlignVisionTransformerClsHead'),
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=4),
            dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=4),
        ]
    ),
)

# The central nine tenths of the shorter side
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 248
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=5e-4))
# from 1e-6 over 10 epochs; 10 more at the last rate
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6 / 5e-4, by_epoch=True, end=10, convert_to_iter_based=True
    ),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=10, end=300),
]
train_cfg = dict(max_epochs=310)
auto_scale_lr = dict(base_batch_size=512)

custom_hooks = [
    *_base_.custom_hooks,
    # an average over about 25,000 iterations: 1 - 0.99996
    dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL'),
]
