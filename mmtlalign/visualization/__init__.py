from .alignment_figure import draw_alignment, draw_share_maps
from .fidelity_figure import draw_fidelity
from .trackers import AimTracker, MLflowTracker, WandbTracker

__all__ = [
    'AimTracker',
    'MLflowTracker',
    'WandbTracker',
    'draw_alignment',
    'draw_fidelity',
    'draw_share_maps',
]
