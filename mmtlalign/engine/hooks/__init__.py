from .check_token_labels import CheckTokenLabels
from .encoder_features import EncoderFeatures
from .resume_random_state import ResumeRandomState
from .verify_pretrained import VerifyPretrained

__all__ = [
    'CheckTokenLabels', 'EncoderFeatures', 'ResumeRandomState',
    'VerifyPretrained'
]
