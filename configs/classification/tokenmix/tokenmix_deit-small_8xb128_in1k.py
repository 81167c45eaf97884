# TokenMix's recipe for DeiT-S, from `exp/deit_small/run.sh` of its code and
# the defaults of `main.py`: DeiT's schedule without repeated augmentation,
# Mixup and TokenMix evenly, binary cross entropy, and an average of the
# weights. It used mixed precision (`--amp`), and maps of an NFNet-F6.
_base_ = [
    '../_base_/models/deit-small_224.py',
    '../_base_/datasets/imagenet_bs128_tokenmix_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_deit.py',
    '../_base_/token_label_runtime.py',
]

model = dict(**_base_.tokenmix)

custom_hooks = [
    *_base_.custom_hooks,
    # an average over about 25,000 iterations: 1 - 0.99996
    dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL'),
]
