# PVT-T of mmdet, classified by the mean of its last map. The published network
# has a class token in its last stage and a norm behind it. mmdet's has
# neither; here each stage has a norm at its end, as in PVTv2. For every batch
# one of Mixup and CutMix, evenly, as published, with CutMix on the 4 px grid.
model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(
        type='mmdet.PyramidVisionTransformer',
        num_layers=[2, 2, 2, 2],
        norm_after_stage=True,
        out_indices=(3,),
        drop_path_rate=0.1,
    ),
    neck=dict(type='mmtlalign.LastMapPooling'),
    head=dict(
        type='mmtlalign.TLAlignLinearClsHead',
        num_classes=1000,
        in_channels=512,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=4),
            dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=4),
        ]
    ),
)
