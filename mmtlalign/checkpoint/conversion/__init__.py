"""Checkpoints in the layouts of papers, timm and mmpretrain."""

from .deit import DeiT
from .family import Family, State
from .lvvit import LVViTFamily
from .swin import Swin

# The first that recognises a file is taken: what LV-ViT calls its blocks,
# DeiT does too.
FAMILIES = (LVViTFamily(), DeiT(), Swin())

__all__ = ['FAMILIES', 'Family', 'State']
