# Many short epochs: fewer checkpoints.
_base_ = './default_runtime.py'

default_hooks = dict(checkpoint=dict(interval=10))
