# The published recipe of LV-ViT-S. It used mixed precision (`--amp`).
_base_ = [
    '../_base_/models/lvvit-small_224.py',
    '../_base_/datasets/imagenet_bs128_token-labels_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_lvvit.py',
    '../_base_/token_label_runtime.py',
]

custom_hooks = [
    *_base_.custom_hooks,
    # an average over about 12,500 iterations: 1 - 0.99992
    dict(type='EMAHook', momentum=8e-5, priority='ABOVE_NORMAL'),
]
