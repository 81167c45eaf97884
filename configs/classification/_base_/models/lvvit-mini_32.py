# An LV-ViT of 0.7 M parameters for 32x32 px images, small enough for one CPU:
# 8x8 tokens behind a stem at half resolution. Every batch is mixed.
model = dict(
    type='mmtlalign.TokenLabelClassifier',
    backbone=dict(
        type='mmtlalign.LVViT',
        arch=dict(
            embed_dims=128,
            num_layers=4,
            num_heads=4,
            feedforward_channels=384,
            stem_channels=16,
            skip_lam=1.0,
        ),
        img_size=32,
        patch_size=4,
        drop_path_rate=0.1,
        out_type='raw',
    ),
    neck=None,
    head=dict(
        type='mmtlalign.TokenLabelHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='mmtlalign.MixToken', alpha=1.0, patch_size=4)]),
)
