"""Checkpoints in the layouts of papers, timm and mmpretrain."""

from .beit import BEiT
from .deit import DeiT
from .family import Family, State
from .lvvit import LVViTFamily
from .pvt import PVTv2
from .recognition import recognise
from .swin import Swin, SwinV2
from .twins import Twins

__all__ = [
    'BEiT',
    'DeiT',
    'Family',
    'LVViTFamily',
    'PVTv2',
    'State',
    'Swin',
    'SwinV2',
    'Twins',
    'recognise',
]
