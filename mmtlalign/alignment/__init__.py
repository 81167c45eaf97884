"""The method: token shares that follow a backbone's mixing of tokens."""

from .families import Family, refuse_family, refused_backbones, register_family, supported_backbones
from .propagation import Propagation, register_propagation
from .trace import LabelTrace
