from .alignment_figure import draw_alignment, draw_share_maps
from .fidelity_figure import draw_fidelity

__all__ = ['draw_alignment', 'draw_share_maps', 'draw_fidelity']
