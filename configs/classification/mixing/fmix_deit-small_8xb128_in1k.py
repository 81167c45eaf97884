# Masks of low-frequency noise, in pixels. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-small_8xb128_in1k.py'

model = dict(
    target=dict(type='mmtlalign.AreaTarget'),
    train_cfg=dict(augments=[dict(type='mmtlalign.FMix', alpha=1.0, patch_size=16)]),
)
