# Stage 1: DeiT-S and LaCViT's projector, from a checkpoint of ours.
model = dict(
    type='mmtlalign.LaCViT',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/tlalign_deit-small_8xb128_in1k/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(type='MoCoV2Neck', in_channels=384, hid_channels=384, out_channels=128),
    loss=dict(type='mmtlalign.SupervisedContrastiveLoss', temperature=0.1),
)
