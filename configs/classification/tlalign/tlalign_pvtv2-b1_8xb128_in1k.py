# PVTv2 has the recipe of PVT. Its patches overlap; a token counts by the 4 px
# that it advances by.
_base_ = './tlalign_pvt-tiny_8xb128_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.PyramidVisionTransformerV2',
        num_layers=[2, 2, 2, 2],
        out_indices=(3,),
        drop_path_rate=0.1,
    )
)
