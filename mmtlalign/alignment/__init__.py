"""The method: token shares that follow a backbone's mixing of tokens."""
from .rules import RULES
from .trace import LabelTrace

__all__ = ['RULES', 'LabelTrace']
