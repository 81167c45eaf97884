# Types without a scope are mmdet's; ours carry the scope `mmtlalign` and
# backbones `mmpretrain`.
_base_ = 'mmdet::_base_/default_runtime.py'

# As for classification: the last two checkpoints, and none picked as best.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))

# A killed and resumed run continues the random draws of the first one.
custom_hooks = [dict(type='mmtlalign.ResumeRandomState')]

randomness = dict(seed=0, deterministic=False)
