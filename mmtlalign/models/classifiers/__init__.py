from .tlalign_classifier import TLAlignClassifier

__all__ = ['TLAlignClassifier']
