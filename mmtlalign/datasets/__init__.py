from .digits import Digits
from .image_folder_subset import ImageFolderSubset

__all__ = ['Digits', 'ImageFolderSubset']
