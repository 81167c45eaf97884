from . import hooks, optimizers, sharding
from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .sharding import *  # noqa: F403

__all__ = [*hooks.__all__, *optimizers.__all__, *sharding.__all__]
