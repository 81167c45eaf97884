from .hooks import (
    CheckTokenLabels,
    EncoderFeatures,
    ResumeRandomState,
    VerifyPretrained,
)
from .optimizers import (
    BFloat16OptimWrapper,
    LayerDecayOptimWrapperConstructor,
)

__all__ = [
    'BFloat16OptimWrapper', 'CheckTokenLabels', 'EncoderFeatures',
    'LayerDecayOptimWrapperConstructor', 'ResumeRandomState',
    'VerifyPretrained'
]
