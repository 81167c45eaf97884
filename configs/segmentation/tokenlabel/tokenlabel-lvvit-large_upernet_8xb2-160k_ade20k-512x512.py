# From the weights fine-tuned at 448 px, as published.
_base_ = './tokenlabel-lvvit-small_upernet_8xb2-160k_ade20k-512x512.py'

checkpoint = 'work_dirs/tokenlabel_lvvit-large_8xb64_in1k-448px/epoch_30.pth'
model = dict(
    backbone=dict(
        arch='large',
        img_size=448,
        drop_path_rate=0.5,
        out_indices=(14, 17, 20, 23),
        init_cfg=dict(checkpoint=checkpoint),
    ),
    neck=dict(embed_dim=768),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=512),
    auxiliary_head=dict(in_channels=768, channels=512),
)
