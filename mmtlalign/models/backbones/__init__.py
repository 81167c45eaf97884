from .lvvit import LVViT

__all__ = ['LVViT']
