from .tlalign_data_preprocessor import TLAlignDataPreprocessor
from .token_label_data_preprocessor import TokenLabelDataPreprocessor

__all__ = ['TLAlignDataPreprocessor', 'TokenLabelDataPreprocessor']
