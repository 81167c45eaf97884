# LV-ViT-S with TL-Align instead of token labels: its recipe, without maps and
# without the dense head. MixToken and alignment share one record: tokens are
# swapped behind the stem, whose view crosses patches, and the labels follow
# from there.
_base_ = [
    '../_base_/models/lvvit-small_224.py',
    '../_base_/datasets/imagenet_bs64_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_lvvit.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(out_type='cls_token'),
    head=dict(
        type='mmtlalign.TLAlignVisionTransformerClsHead',
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    target=dict(type='mmtlalign.AlignedTarget'),
)

train_dataloader = dict(batch_size=128)

custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=8e-5, priority='ABOVE_NORMAL')]
