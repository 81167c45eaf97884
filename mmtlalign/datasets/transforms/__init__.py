from .carrying import (
    RandAugment,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Rotate,
    Shear,
    Translate,
)
from .swap_channels import SwapChannels
from .token_labels import LoadTokenLabels

__all__ = [
    'LoadTokenLabels', 'RandAugment', 'RandomCrop', 'RandomFlip',
    'RandomResizedCrop', 'Rotate', 'Shear', 'SwapChannels', 'Translate'
]
