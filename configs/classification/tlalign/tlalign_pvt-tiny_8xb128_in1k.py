# The recipe of PVT's code, which is DeiT's with repeated augmentation, and
# CutMix on the grid of patches. TL-Align's paper trains PVT; no code of that
# was published.
_base_ = [
    '../_base_/models/pvt-tiny_224.py',
    '../_base_/datasets/imagenet_bs64_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_deit.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=128, sampler=dict(type='RepeatAugSampler', num_repeats=3))
