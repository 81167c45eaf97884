# DeiT-S with aligned labels. Configs add `train_cfg`, which says how to mix.
model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(
        type='VisionTransformer', arch='deit-small', img_size=224, patch_size=16, drop_path_rate=0.1
    ),
    neck=None,
    head=dict(
        type='mmtlalign.TLAlignVisionTransformerClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
