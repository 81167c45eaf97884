# LV-ViT-S with token labels. Every batch is mixed in the output of the patch
# embedding, by boxes with even sides as published.
model = dict(
    type='mmtlalign.TokenLabelClassifier',
    backbone=dict(
        type='mmtlalign.LVViT', arch='small', img_size=224, drop_path_rate=0.1, out_type='raw'
    ),
    neck=None,
    head=dict(
        type='mmtlalign.TokenLabelHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(
        augments=[dict(type='mmtlalign.MixToken', alpha=1.0, patch_size=16, even_sides=True)]
    ),
)
