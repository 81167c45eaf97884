from .hooks import (
    ChannelsLast,
    CheckTokenLabels,
    DryRun,
    DryRunEnded,
    EncoderFeatures,
    ExtendSchedule,
    ProfileSteps,
    RecordLegs,
    ResumeRandomState,
    StopOnDivergence,
    StopOnSignal,
    Throughput,
    VerifyPretrained,
    keep_checkpoints_whole,
)
from .optimizers import BFloat16OptimWrapper, LayerDecayOptimWrapperConstructor
from .sharding import FSDP2Strategy, ShardedRunner

__all__ = [
    'BFloat16OptimWrapper',
    'ChannelsLast',
    'CheckTokenLabels',
    'DryRun',
    'DryRunEnded',
    'EncoderFeatures',
    'ExtendSchedule',
    'FSDP2Strategy',
    'LayerDecayOptimWrapperConstructor',
    'ProfileSteps',
    'RecordLegs',
    'ResumeRandomState',
    'ShardedRunner',
    'StopOnDivergence',
    'StopOnSignal',
    'Throughput',
    'VerifyPretrained',
    'keep_checkpoints_whole',
]
