_base_ = './cascade-mask-rcnn_tlalign-swin-tiny_fpn_8xb2-ms-crop-3x_coco.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='work_dirs/tlalign_swin-base_16xb64_in1k/epoch_300.pth'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
