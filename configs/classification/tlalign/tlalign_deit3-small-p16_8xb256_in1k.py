# DeiT III's recipe for its small model at 224 px, with CutMix moved to the
# grid of patches. One more thing differs: the published code sets every
# target above 0 to 1 before the binary cross entropy, which would discard the
# shares of the two images; here they stay, in the baseline too.
_base_ = [
    '../_base_/datasets/imagenet_bs256_three-augment_224.py',
    '../_base_/schedules/imagenet_bs2048_lamb_deit3.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(type='DeiT3', arch='small', img_size=224, patch_size=16, drop_path_rate=0.05),
    neck=None,
    head=dict(
        type='mmtlalign.TLAlignVisionTransformerClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(
            type='LabelSmoothLoss',
            label_smooth_val=0.0,
            mode='original',
            use_sigmoid=True,
            loss_weight=1 / 1000,
        ),
    ),  # the mean over classes
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=16),
            dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=16),
        ]
    ),
)
