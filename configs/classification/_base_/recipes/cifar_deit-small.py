# The recipe of OpenMixup's deit_s_mixups_sz224_bs100_randaug.py (made for
# CIFAR-100), with CutMix moved to the grid of patches.
_base_ = [
    '../models/deit-small_224.py',
    '../schedules/cifar_bs100_adamw.py',
    '../default_runtime.py',
]

model = dict(
    train_cfg=dict(
        augments=[
            dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=16),
            dict(type='mmtlalign.TokenCutMix', alpha=1.0, patch_size=16),
        ]
    )
)
