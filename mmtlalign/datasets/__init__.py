from .digits import Digits
from .hf_image_dataset import HFImageDataset
from .image_folder_subset import ImageFolderSubset
from .image_folders import CustomDataset, ImageNet
from .object_crops import ObjectCrops
from .object_mask import ObjectMask
from .planted_digits import PlantedDigits
from .token_label_store import TokenLabelStore, image_names
from .token_labels import TokenLabels
from .transforms import *  # noqa: F403

__all__ = [
    'CustomDataset',
    'Digits',
    'HFImageDataset',
    'ImageFolderSubset',
    'ImageNet',
    'ObjectCrops',
    'ObjectMask',
    'PlantedDigits',
    'TokenLabelStore',
    'TokenLabels',
    'image_names',
]
