# The same with the deit-mini of TL-Align's configs, for 32x32 px.
_base_ = './crossentropy_deit-small.py'

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512
        ),
        img_size=32,
        patch_size=4,
        init_cfg=dict(checkpoint='work_dirs/tlalign_deit-mini_1xb128_cifar10/epoch_10.pth'),
    ),
    head=dict(in_channels=128),
)
