# A slim UPerNet on swin-mini, for one CPU. Its maps have strides 2, 4 and 8,
# since its patches are 2 px wide. Group norm, because batches are small and
# synchronized batch norm needs GPUs.
norm_cfg = dict(type='GN', num_groups=16, requires_grad=True)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        # of CIFAR-10, as in pretraining
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        bgr_to_rgb=True,
        size_divisor=1,
    ),
    backbone=dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=48, depths=[2, 2, 2], num_heads=[3, 6, 12]),
        img_size=32,
        patch_size=2,
        window_size=4,
        drop_path_rate=0.1,
        # a map smaller than a window is padded, the window is not shrunk
        pad_small_map=True,
        out_indices=(0, 1, 2),
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[48, 96, 192],
        in_index=[0, 1, 2],
        pool_scales=(1, 2, 3, 6),
        channels=64,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        # averaged over the pixels that have a class
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
