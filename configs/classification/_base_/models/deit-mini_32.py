# A DeiT of 1.2 M parameters for 32x32 px images, small enough for one CPU:
# 8x8 tokens, heads 32 wide as in Swin (64 in DeiT would leave two of them).
model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        img_size=32,
        patch_size=4,
        drop_path_rate=0.1,
    ),
    neck=None,
    head=dict(
        type='mmtlalign.TLAlignVisionTransformerClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
    # Every batch is mixed
    train_cfg=dict(augments=[dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=4)]),
)
