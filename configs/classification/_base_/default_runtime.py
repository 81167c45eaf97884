# Types without a scope are mmpretrain's; ours carry the scope `mmtlalign`.
default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # The last two checkpoints are kept: one to go on from, and one more in
    # case a run is killed while it writes. No "best" one is picked, since the
    # figures of this project are those of the last epoch.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False),
)

# A killed and resumed run continues the random draws of the first one.
custom_hooks = [dict(type='mmtlalign.ResumeRandomState')]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)

# What alignment does is drawn anew for every batch: log means over the
# interval, as for losses, and not one batch.
log_processor = dict(
    mean_pattern=r'.*(loss|time|grad_norm|lam|aligned_share|'
    r'token_fluctuation).*'
)

log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, deterministic=False)
