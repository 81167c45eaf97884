# MixPro's mask: random cells, others in each image. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-small_8xb128_in1k.py'

model = dict(
    target=dict(type='mmtlalign.AreaTarget'),
    train_cfg=dict(
        augments=[dict(type='mmtlalign.MaskMix', alpha=1.0, cell_size=2, patch_size=16)]
    ),
)
