from .hooks import (
    CheckTokenLabels,
    EncoderFeatures,
    ExtendSchedule,
    RecordLegs,
    ResumeRandomState,
    StopOnDivergence,
    StopOnSignal,
    VerifyPretrained,
    keep_checkpoints_whole,
)
from .optimizers import BFloat16OptimWrapper, LayerDecayOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper',
    'CheckTokenLabels',
    'EncoderFeatures',
    'ExtendSchedule',
    'LayerDecayOptimWrapperConstructor',
    'RecordLegs',
    'ResumeRandomState',
    'StopOnDivergence',
    'StopOnSignal',
    'VerifyPretrained',
    'keep_checkpoints_whole',
]
