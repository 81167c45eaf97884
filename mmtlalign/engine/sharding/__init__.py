from .fsdp2_strategy import FSDP2Strategy
from .sharded_runner import ShardedRunner
from .tensors import gather, like_shards, whole

__all__ = ['FSDP2Strategy', 'ShardedRunner', 'gather', 'like_shards', 'whole']
