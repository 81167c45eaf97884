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
    'LoadTokenLabels', 'RandAugment', 'RandomFlip', 'RandomResizedCrop',
    'Rotate', 'Shear', 'Translate'
]
