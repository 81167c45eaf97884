# A stock DeiT-S that starts from a checkpoint of ours. Stock mixing and area
# labels for every checkpoint, so that only the pretraining differs.
_base_ = ['../schedules/finetune_bs768_sgd.py', '../finetune_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/tlalign_deit-small_8xb128_in1k/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
    neck=None,
    head=dict(
        type='VisionTransformerClsHead',
        in_channels=384,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
