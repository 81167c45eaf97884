from .check_token_labels import CheckTokenLabels
from .encoder_features import EncoderFeatures
from .resume_random_state import ResumeRandomState
from .stop_on_divergence import StopOnDivergence
from .verify_pretrained import VerifyPretrained

__all__ = [
    'CheckTokenLabels', 'EncoderFeatures', 'ResumeRandomState',
    'StopOnDivergence', 'VerifyPretrained'
]
