# mmpretrain's recipe for Swin with CutMix moved to the 4 px grid of patches.
# Mixup stays; this is our choice, since no code was published for Swin.
_base_ = [
    '../_base_/models/swin-tiny_224.py',
    '../_base_/datasets/imagenet_bs64_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
