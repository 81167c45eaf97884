from .inference import build_inference
from .model import get_model

__all__ = ['build_inference', 'get_model']
