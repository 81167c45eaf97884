from .hooks import (
    CheckTokenLabels,
    EncoderFeatures,
    ResumeRandomState,
    StopOnDivergence,
    VerifyPretrained,
)
from .optimizers import (
    BFloat16OptimWrapper,
    LayerDecayOptimWrapperConstructor,
)

__all__ = [
    'BFloat16OptimWrapper', 'CheckTokenLabels', 'EncoderFeatures',
    'LayerDecayOptimWrapperConstructor', 'ResumeRandomState',
    'StopOnDivergence', 'VerifyPretrained'
]
