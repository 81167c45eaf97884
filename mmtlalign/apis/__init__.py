from .inference import build_inference
from .model import get_model
from .zoo import list_models

__all__ = ['build_inference', 'get_model', 'list_models']
