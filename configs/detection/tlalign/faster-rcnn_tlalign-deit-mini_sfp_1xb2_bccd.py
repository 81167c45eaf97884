# The blood cells with the backbone of tlalign_deit-mini_1xb128_cifar10. Its
# patches are 4 px wide; the neck starts at stride 2, half of that. Attention
# over all tokens is dear on a CPU, so images are a fifth of the full size:
# red cells are then about 20 px wide, white ones 38, platelets 8, two tokens.
_base_ = [
    '../_base_/models/faster-rcnn_slim.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/mini_bs2_adamw.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        img_size=32,
        patch_size=4,
        out_type='featmap',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/tlalign_deit-mini_1xb128_cifar10/epoch_10.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(
        _delete_=True,
        type='mmtlalign.SimpleFeaturePyramid',
        in_channels=128,
        out_channels=64,
        scales=(2, 1, 0.5),
        num_outs=4,
    ),
    roi_head=dict(bbox_head=dict(num_classes=3)),
)

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (128, 96)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (128, 96)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
