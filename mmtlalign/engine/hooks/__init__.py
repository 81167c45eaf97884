from .resume_random_state import ResumeRandomState

__all__ = ['ResumeRandomState']
