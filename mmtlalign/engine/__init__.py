from .hooks import CheckTokenLabels, ResumeRandomState, VerifyPretrained
from .optimizers import LayerDecayOptimWrapperConstructor

__all__ = [
    'CheckTokenLabels', 'LayerDecayOptimWrapperConstructor',
    'ResumeRandomState', 'VerifyPretrained'
]
