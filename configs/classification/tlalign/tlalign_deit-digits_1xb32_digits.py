# A small DeiT on scikit-learn's digits: trains in minutes on a CPU.
_base_ = [
    '../_base_/datasets/digits_32.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/default_runtime.py'
]

model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=64,
            num_layers=4,
            num_heads=4,
            feedforward_channels=256),
        img_size=32,
        patch_size=4),
    neck=None,
    head=dict(
        type='mmtlalign.TLAlignVisionTransformerClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.)
    ],
    # Every batch is mixed
    train_cfg=dict(augments=[
        dict(type='mmtlalign.TokenCutMix', alpha=1., patch_size=4)
    ]),
)

train_cfg = dict(max_epochs=45, val_interval=5)
auto_scale_lr = dict(base_batch_size=32)

default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=5))
