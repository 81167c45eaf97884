# UPerNet on the plain DeiT-S: the maps of blocks 3, 6, 9 and 12, all at stride
# 16, become strides 4, 8, 16 and 32.
_base_ = './upernet_swin-tiny.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='deit-small',
        # The size of pretraining: position embeddings are loaded as they are,
        # and resized in every forward.
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        # The last norm was learnt for the class token, and only one of the
        # four maps would pass it.
        final_norm=False,
        out_type='featmap',
        out_indices=(2, 5, 8, 11),
    ),
    neck=dict(
        type='Feature2Pyramid', embed_dim=384, rescales=[4, 2, 1, 0.5], norm_cfg=_base_.norm_cfg
    ),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
    # Windows of the training size, so that position embeddings stay as
    # trained whatever the size of an image.
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
