_base_ = './tlalign-deit-small_upernet_8xb2-160k_ade20k-512x512.py'

checkpoint = 'work_dirs/tlalign_deit-base_8xb128_in1k/epoch_300.pth'
model = dict(
    backbone=dict(arch='deit-base', init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(embed_dim=768),
    decode_head=dict(in_channels=[768, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
)
