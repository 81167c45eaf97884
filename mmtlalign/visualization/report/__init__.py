"""One HTML page, complete in itself, about one or several runs."""

from .page import Run, render

__all__ = ['Run', 'render']
