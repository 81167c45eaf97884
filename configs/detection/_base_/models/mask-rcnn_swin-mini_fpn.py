# A slim Mask R-CNN on swin-mini, for one CPU, for objects of 16 to 64 px. Its
# maps have strides 2, 4 and 8, since its patches are 2 px wide.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=48, depths=[2, 2, 2], num_heads=[3, 6, 12]),
        img_size=32,
        patch_size=2,
        window_size=4,
        drop_path_rate=0.1,
        # a map smaller than a window is padded, the window is not shrunk
        pad_small_map=True,
        out_indices=(0, 1, 2),
    ),
    neck=dict(in_channels=[48, 96, 192], out_channels=64, num_outs=3),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(strides=[2, 4, 8])),
    roi_head=dict(
        # finest_scale: objects from twice this size on go up a level; 56 px
        # at stride 4 in the host
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[2, 4, 8], finest_scale=28),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=64, featmap_strides=[2, 4, 8], finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=10),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        # at most eight objects an image
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300), rcnn=dict(max_per_img=30)),
)
