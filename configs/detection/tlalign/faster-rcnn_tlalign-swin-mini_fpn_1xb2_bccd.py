# The blood cells with the backbone of tlalign_swin-mini_1xb128_cifar10.
_base_ = [
    '../_base_/models/faster-rcnn_slim.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/mini_bs2_adamw.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=48, depths=[2, 2, 2], num_heads=[3, 6, 12]),
        img_size=32,
        patch_size=2,
        window_size=4,
        out_indices=(0, 1, 2),
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/tlalign_swin-mini_1xb128_cifar10/epoch_10.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(in_channels=[48, 96, 192], out_channels=64, num_outs=4),
    roi_head=dict(bbox_head=dict(num_classes=3)),
)
