from .carrying import (
    RandAugment,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Rotate,
    Shear,
    Translate,
)
from .load_object_mask import LoadObjectMask
from .swap_channels import SwapChannels
from .token_labels import LoadTokenLabels

__all__ = [
    'LoadObjectMask', 'LoadTokenLabels', 'RandAugment', 'RandomCrop',
    'RandomFlip', 'RandomResizedCrop', 'Rotate', 'Shear', 'SwapChannels',
    'Translate'
]
