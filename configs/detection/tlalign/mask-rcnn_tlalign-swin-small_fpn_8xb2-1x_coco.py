_base_ = './mask-rcnn_tlalign-swin-tiny_fpn_8xb2-1x_coco.py'

model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/tlalign_swin-small_16xb64_in1k/epoch_300.pth'),
    )
)
