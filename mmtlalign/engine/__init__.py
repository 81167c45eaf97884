from .hooks import (
    PREDICTIONS,
    CheckTokenLabels,
    EncoderFeatures,
    ExtendSchedule,
    KeepPredictions,
    RecordLegs,
    ResumeRandomState,
    StopOnDivergence,
    StopOnSignal,
    VerifyPretrained,
    keep_checkpoints_whole,
)
from .optimizers import BFloat16OptimWrapper, LayerDecayOptimWrapperConstructor

__all__ = [
    'PREDICTIONS',
    'BFloat16OptimWrapper',
    'CheckTokenLabels',
    'EncoderFeatures',
    'ExtendSchedule',
    'LayerDecayOptimWrapperConstructor',
    'KeepPredictions',
    'RecordLegs',
    'ResumeRandomState',
    'StopOnDivergence',
    'StopOnSignal',
    'VerifyPretrained',
    'keep_checkpoints_whole',
]
