"""Registry-built parts in the host's categories."""

from .backbones import *  # noqa: F403
from .batch_augments import *  # noqa: F403
from .classifiers import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .heads import *  # noqa: F403
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403
from .segmentation import *  # noqa: F403
from .selfsup import *  # noqa: F403
from .targets import *  # noqa: F403
