# A DeiT of 0.4 M parameters on planted digits, minutes on a CPU; labels by
# area. One box in 4 of 5 batches, random partners, 3,000 steps.
_base_ = [
    '../_base_/datasets/planted_24.py',
    '../_base_/schedules/mini_bs128_adamw.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmtlalign.TLAlignClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=96, num_layers=4, num_heads=4, feedforward_channels=288),
        img_size=24,
        patch_size=4,
    ),
    neck=None,
    head=dict(
        type='mmtlalign.TLAlignVisionTransformerClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    target=dict(type='mmtlalign.AreaTarget'),
    train_cfg=dict(
        augments=[dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=4, partner='random')],
        probs=[0.8],
    ),
)

# Five epochs of warm-up
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 5

train_cfg = dict(max_epochs=150, val_interval=50)
auto_scale_lr = dict(base_batch_size=50)

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=10))
