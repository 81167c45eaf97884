# Every image is blended with another one. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-small_8xb128_in1k.py'

model = dict(
    target=dict(type='mmtlalign.AreaTarget'),
    train_cfg=dict(augments=[dict(type='mmtlalign.Mixup', alpha=0.8, patch_size=16)]),
)
