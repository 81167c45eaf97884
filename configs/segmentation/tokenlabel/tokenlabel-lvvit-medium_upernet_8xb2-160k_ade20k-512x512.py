_base_ = './tokenlabel-lvvit-small_upernet_8xb2-160k_ade20k-512x512.py'

checkpoint = 'work_dirs/tokenlabel_lvvit-medium_8xb128_in1k/epoch_310.pth'
model = dict(
    backbone=dict(
        arch='medium',
        drop_path_rate=0.2,
        out_indices=(10, 13, 16, 19),
        init_cfg=dict(checkpoint=checkpoint),
    ),
    neck=dict(embed_dim=512),
    decode_head=dict(in_channels=[512, 512, 512, 512]),
    auxiliary_head=dict(in_channels=512),
)
