from .resume_random_state import ResumeRandomState
from .verify_pretrained import VerifyPretrained

__all__ = ['ResumeRandomState', 'VerifyPretrained']
