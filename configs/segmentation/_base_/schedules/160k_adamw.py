# AdamW for 160,000 iterations of 16 images; evaluated every 16,000. Values of
# the published UPerNet recipes on Swin and DeiT.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    # No decay on norms and on what is learnt per token or position. Norms go
    # by module: a key `norm` would miss the `ln1` and `ln2` of plain ViTs.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            'cls_token': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
        },
    ),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500),
]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=16)
