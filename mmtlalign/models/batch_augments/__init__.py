from .batch_mix import BatchMix, mix_scores
from .cutmix import CutMix
from .mix_record import MixRecord
from .mixup import Mixup
from .random_mix import RandomMix
from .token_cutmix import TokenCutMix

__all__ = [
    'BatchMix', 'CutMix', 'MixRecord', 'Mixup', 'RandomMix', 'TokenCutMix',
    'mix_scores'
]
