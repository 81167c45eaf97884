from .tlalign_classifier import TLAlignClassifier
from .token_label_classifier import TokenLabelClassifier

__all__ = ['TLAlignClassifier', 'TokenLabelClassifier']
