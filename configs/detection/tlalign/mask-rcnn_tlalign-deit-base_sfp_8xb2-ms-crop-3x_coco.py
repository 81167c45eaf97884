_base_ = './mask-rcnn_tlalign-deit-small_sfp_8xb2-ms-crop-3x_coco.py'

model = dict(
    backbone=dict(
        arch='deit-base',
        init_cfg=dict(checkpoint='work_dirs/tlalign_deit-base_8xb128_in1k/epoch_300.pth'),
    ),
    neck=dict(in_channels=768),
)
