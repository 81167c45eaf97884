# MixPro: 4x4 cells as published, and labels by attention as far as the
# prediction is right. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-mini_1xb128_cifar10.py'

model = dict(
    target=dict(type='mmtlalign.ProgressiveTarget'),
    train_cfg=dict(augments=[dict(type='mmtlalign.MaskMix', alpha=1.0, cell_size=2, patch_size=4)]),
)
