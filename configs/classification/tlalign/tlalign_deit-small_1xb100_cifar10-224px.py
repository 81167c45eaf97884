# The recipe of OpenMixup's deit_s_mixups_sz224_bs100_randaug.py (made for
# CIFAR-100), with CutMix moved to the grid of patches.
_base_ = [
    '../_base_/models/deit-small_224.py',
    '../_base_/datasets/cifar10_bs100_224.py',
    '../_base_/schedules/cifar_bs100_adamw.py',
    '../_base_/default_runtime.py'
]

model = dict(
    head=dict(num_classes=10),
    train_cfg=dict(augments=[
        dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=16),
        dict(type='mmtlalign.TokenCutMix', alpha=1., patch_size=16)
    ]),
)
