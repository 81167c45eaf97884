# Every patch token is trained on its aligned label. The recipe is TL-Align's.
_base_ = '../tlalign/tlalign_deit-small_8xb128_in1k.py'

model = dict(
    backbone=dict(out_type='raw'),
    head=dict(type='mmtlalign.AlignedTokenHead'),
    target=dict(type='mmtlalign.AlignedTokenTarget'),
)
