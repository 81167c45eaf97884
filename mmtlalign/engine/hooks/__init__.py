from .check_token_labels import CheckTokenLabels
from .encoder_features import EncoderFeatures
from .extend_schedule import ExtendSchedule
from .keep_predictions import PREDICTIONS, KeepPredictions
from .record_legs import RecordLegs
from .resume_random_state import ResumeRandomState
from .stop_on_divergence import StopOnDivergence
from .stop_on_signal import StopOnSignal
from .verify_pretrained import VerifyPretrained
from .whole_checkpoints import keep_checkpoints_whole

__all__ = [
    'PREDICTIONS',
    'CheckTokenLabels',
    'EncoderFeatures',
    'ExtendSchedule',
    'KeepPredictions',
    'RecordLegs',
    'ResumeRandomState',
    'StopOnDivergence',
    'StopOnSignal',
    'VerifyPretrained',
    'keep_checkpoints_whole',
]
