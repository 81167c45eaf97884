from .hooks import (
    CheckTokenLabels,
    EncoderFeatures,
    ResumeRandomState,
    VerifyPretrained,
)
from .optimizers import LayerDecayOptimWrapperConstructor

__all__ = [
    'CheckTokenLabels', 'EncoderFeatures',
    'LayerDecayOptimWrapperConstructor', 'ResumeRandomState',
    'VerifyPretrained'
]
