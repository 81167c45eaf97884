# A stock DeiT-S from a checkpoint of ours, trained as a whole on hard labels:
# what LaCViT is compared with.
model = dict(
    type='ImageClassifier',
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
    neck=None,
    head=dict(type='VisionTransformerClsHead', in_channels=384, loss=dict(type='CrossEntropyLoss')),
)
