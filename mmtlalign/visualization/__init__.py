from .alignment_figure import draw_alignment
from .fidelity_figure import draw_fidelity

__all__ = ['draw_alignment', 'draw_fidelity']
