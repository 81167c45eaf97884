# A slim UPerNet on deit-mini, for one CPU. Patches of 4 px put all four maps
# at stride 4, where the pyramid starts: the other levels are made by shrinking
# (Feature2Pyramid would enlarge the first one to stride 1).
_base_ = './upernet_swin-mini.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        # The size of pretraining: position embeddings are loaded as they are,
        # and resized in every forward.
        img_size=32,
        patch_size=4,
        drop_path_rate=0.1,
        # The last norm was learnt for the class token, and only one of the
        # four maps would pass it.
        final_norm=False,
        out_type='featmap',
        out_indices=(1, 2, 4, 5),
    ),
    neck=dict(
        type='MultiLevelNeck',
        in_channels=[128, 128, 128, 128],
        out_channels=64,
        scales=[1, 0.5, 0.25, 0.125],
    ),
    decode_head=dict(in_channels=[64, 64, 64, 64], in_index=[0, 1, 2, 3]),
)
