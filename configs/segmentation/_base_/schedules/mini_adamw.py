# AdamW for the small runs: configs say for how many iterations (`max_iters`,
# `val_interval`, and how often a checkpoint is saved).
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    # No decay on norms and on what is learnt per token or position. Norms go
    # by module: a key `norm` would miss the `ln1` and `ln2` of plain ViTs.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            'cls_token': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
        }),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0., by_epoch=False, begin=50),
]

train_cfg = dict(type='IterBasedTrainLoop')
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=4)
