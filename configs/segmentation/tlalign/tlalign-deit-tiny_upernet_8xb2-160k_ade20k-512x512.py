_base_ = './tlalign-deit-small_upernet_8xb2-160k_ade20k-512x512.py'

checkpoint = 'work_dirs/tlalign_deit-tiny_8xb128_in1k/epoch_300.pth'
model = dict(
    backbone=dict(arch='deit-tiny', init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192),
)
