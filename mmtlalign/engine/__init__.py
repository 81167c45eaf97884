from .hooks import ResumeRandomState

__all__ = ['ResumeRandomState']
