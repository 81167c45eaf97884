from .batch_mix import BatchMix, mix_scores
from .cutmix import CutMix
from .mix_record import MixRecord
from .mix_token import MixToken, put_back_tokens, swap_tokens
from .mixup import Mixup
from .random_mix import RandomMix
from .token_cutmix import TokenCutMix

__all__ = [
    'BatchMix', 'CutMix', 'MixRecord', 'MixToken', 'Mixup', 'RandomMix',
    'TokenCutMix', 'mix_scores', 'put_back_tokens', 'swap_tokens'
]
