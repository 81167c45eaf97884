# The same with ViT-B.
_base_ = './lacvit_stage1_deit-small.py'

model = dict(
    backbone=dict(
        arch='base',
        init_cfg=dict(checkpoint='work_dirs/tlalign_deit-base_8xb128_in1k/epoch_300.pth'),
    ),
    neck=dict(in_channels=768, hid_channels=768),
)
