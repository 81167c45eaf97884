# A box of every image is blanked; labels stay. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-small_8xb128_in1k.py'

model = dict(
    target=dict(type='mmtlalign.AreaTarget'),
    train_cfg=dict(augments=[dict(type='mmtlalign.Cutout', ratio=0.5, patch_size=16)]),
)
