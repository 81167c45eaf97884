# Faster R-CNN with heads slim enough for one CPU: 64 instead of 256 channels
# in the neck, 256 instead of 1024 in the box head, 300 proposals, 128 regions
# trained on. Configs add backbone and neck.
#
# Strides follow patches of 2 px, so anchors and regions go to levels at half
# of the usual sizes: `scales` are 4 (a side of 4 strides: 8, 16, 32 and 64 px)
# instead of 8, `finest_scale` is 28 instead of 56 px.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    # of the pretraining images, see cifar10_imagefolder_32.py
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], pad_size_divisor=8
    ),
    rpn_head=dict(
        in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4], strides=[2, 4, 8, 16])
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[2, 4, 8], finest_scale=28),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=600, max_per_img=300), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=600, max_per_img=300)),
)
