from .carrying import (
    RandAugment,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Rotate,
    Shear,
    Translate,
)
from .load_annotated_image import LoadAnnotatedImage
from .load_object_mask import LoadObjectMask
from .swap_channels import SwapChannels
from .token_labels import LoadTokenLabels

__all__ = [
    'LoadAnnotatedImage',
    'LoadObjectMask',
    'LoadTokenLabels',
    'RandAugment',
    'RandomCrop',
    'RandomFlip',
    'RandomResizedCrop',
    'Rotate',
    'Shear',
    'SwapChannels',
    'Translate',
]
