from .tlalign_data_preprocessor import TLAlignDataPreprocessor

__all__ = ['TLAlignDataPreprocessor']
