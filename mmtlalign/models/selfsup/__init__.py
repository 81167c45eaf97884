from .lacvit import LaCViT

__all__ = ['LaCViT']
