# Mask R-CNN on the last map of DeiT-S. All blocks attend globally through
# PyTorch's fused attention, which keeps no attention matrix; the host's one
# backbone with windows (ViTSAM) keeps those of its global blocks.
#
# `img_size` and the class token stay as in pretraining; the backbone resizes
# position embeddings to each batch by itself.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='featmap',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/tlalign_deit-small_8xb128_in1k/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(
        _delete_=True,
        type='mmtlalign.SimpleFeaturePyramid',
        in_channels=384,
        out_channels=256,
        num_outs=5,
    ),
)
