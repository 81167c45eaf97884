from .channels_last import ChannelsLast
from .check_token_labels import CheckTokenLabels
from .dry_run import DryRun, DryRunEnded
from .encoder_features import EncoderFeatures
from .extend_schedule import ExtendSchedule
from .keep_predictions import PREDICTIONS, KeepPredictions
from .profile_steps import ProfileSteps
from .record_legs import RecordLegs
from .resume_random_state import ResumeRandomState
from .stop_on_divergence import StopOnDivergence
from .stop_on_signal import StopOnSignal
from .throughput import Throughput
from .verify_pretrained import VerifyPretrained
from .whole_checkpoints import keep_checkpoints_whole

__all__ = [
    'ChannelsLast',
    'PREDICTIONS',
    'CheckTokenLabels',
    'DryRun',
    'DryRunEnded',
    'EncoderFeatures',
    'ExtendSchedule',
    'ProfileSteps',
    'KeepPredictions',
    'RecordLegs',
    'ResumeRandomState',
    'StopOnDivergence',
    'StopOnSignal',
    'Throughput',
    'VerifyPretrained',
    'keep_checkpoints_whole',
]
