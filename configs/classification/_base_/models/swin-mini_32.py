# A Swin of 1.3 M parameters for 32x32 px images, small enough for one CPU.
#
# Patch 2 and 48 channels (16x16, 8x8 and 4x4 tokens) rather than patch 4 and
# 64 channels (8x8, 4x4, 2x2; 2.2 M parameters): windows of 4 fit every stage,
# two stages of three have shifted windows, so that shares really move between
# windows, the size is that of deit-mini, and training is a fifth faster. The
# price is paid in detection: four times the tokens cost 0.40 instead of 0.16 s
# a 320x240 px image (Faster R-CNN, two CPU cores), that is 8 instead of 20
# epochs of the BCCD blood cells in 12 minutes, and strides that start at 2.
model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(
        type='SwinTransformer',
        arch=dict(embed_dims=48, depths=[2, 2, 2], num_heads=[3, 6, 12]),
        img_size=32,
        patch_size=2,
        window_size=4,
        out_indices=(2,),
        drop_path_rate=0.1,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='mmtlalign.TLAlignLinearClsHead',
        num_classes=10,
        in_channels=192,
        init_cfg=None,  # keeps the initialisation below for the head too
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        cal_acc=False,
    ),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
    # Every batch is mixed
    train_cfg=dict(augments=[dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=2)]),
)
