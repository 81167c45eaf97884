from .load_annotated_image import LoadAnnotatedImage
from .swap_channels import SwapChannels
from .token_labels import (
    LoadTokenLabels,
    RandAugment,
    RandomFlip,
    RandomResizedCrop,
    Rotate,
    Shear,
    Translate,
)

__all__ = [
    'LoadAnnotatedImage', 'LoadTokenLabels', 'RandAugment', 'RandomFlip',
    'RandomResizedCrop', 'Rotate', 'Shear', 'SwapChannels', 'Translate'
]
