# A stock Swin-T that starts from a checkpoint of ours. Stock mixing and area
# labels for every checkpoint, so that only the pretraining differs.
_base_ = ['../schedules/finetune_bs768_sgd.py', '../finetune_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='SwinTransformer',
        arch='tiny',
        img_size=224,
        drop_path_rate=0.0,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/tlalign_swin-tiny_16xb64_in1k/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
