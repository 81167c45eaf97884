# LV-ViT's schedule: 300 epochs at batch 1024 and 10 more at the last rate.
_base_ = './imagenet_bs1024_adamw_deit.py'

optim_wrapper = dict(optimizer=dict(lr=1.6e-3))

param_scheduler = [
    # from 1e-6
    dict(
        type='LinearLR',
        start_factor=1e-6 / 1.6e-3,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=300),
]

train_cfg = dict(max_epochs=310)
